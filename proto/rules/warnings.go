package rules

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
)

// fields are what a template can name, and for which kinds of alert it is ever there (none said: for all).
var fields = map[string][]string{
	"sku": nil, "shop": nil, "available": {"stock"}, "starts_at": {"sale"},
	"product.title": nil, "product.url": nil, "product.image_url": nil, "product.tags": nil,
	"price.amount": {"price"}, "price.currency": {"price"}, "price.was": {"price"},
	"person.locale": nil, "wish.qty": nil, "wish.below": nil,
}

// Warnings names what is allowed and will still go wrong: fields in templates that the events of that kind never have, so that
// nobody gets the message (verdict no_words).
func (r *Rules) Warnings() []string {
	var warnings []string
	for _, kind := range slices.Sorted(maps.Keys(r.alerts)) {
		for _, m := range r.alerts[kind].messages {
			for _, t := range m.templates() {
				for _, name := range named(t) {
					if why := never(name, kind); why != "" {
						warnings = append(warnings, fmt.Sprintf("%s: .%s: %s: whoever gets this message gets none (no_words)", t.Name(), name, why))
					}
				}
			}
		}
	}
	return warnings
}

func (m message) templates() []*template.Template {
	all := []*template.Template{m.text}
	for _, b := range m.buttons {
		all = append(all, b.url, b.title)
	}
	return all
}

// never says why a field is never there for a kind; empty when it may be.
func never(name, kind string) string {
	whole := false // a group like .product, which is there as a whole
	for field, of := range fields {
		if field == name || strings.HasPrefix(field, name+".") {
			if of == nil || slices.Contains(of, kind) {
				return ""
			}
			whole = true
		}
	}
	if whole {
		return fmt.Sprintf("events of kind %s never have it", kind)
	}
	return "there is no such field"
}

// named lists the fields that a template names at its top level, outside of with and range, where the dot is another.
func named(t *template.Template) []string {
	var names []string
	var walk func(n parse.Node)
	list := func(l *parse.ListNode) {
		if l != nil {
			for _, n := range l.Nodes {
				walk(n)
			}
		}
	}
	walk = func(n parse.Node) {
		switch n := n.(type) {
		case *parse.ActionNode:
			walk(n.Pipe)
		case *parse.PipeNode:
			for _, c := range n.Cmds {
				for _, arg := range c.Args {
					walk(arg)
				}
			}
		case *parse.FieldNode:
			names = append(names, strings.Join(n.Ident, "."))
		case *parse.IfNode:
			walk(n.Pipe)
			list(n.List)
			list(n.ElseList)
		case *parse.WithNode:
			walk(n.Pipe)
		case *parse.RangeNode:
			walk(n.Pipe)
		}
	}
	list(t.Root)
	return names
}
