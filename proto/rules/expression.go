package rules

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"
)

// Event is what an expression sees of something that a person did.
type Event struct {
	Kind    string `cel:"kind"`    // as in the subject: message, postback, ...
	Payload string `cel:"payload"` // of a postback or quick reply, "" if none
	Text    string `cel:"text"`
	Ref     string `cel:"ref"`
}

// Person is what an expression sees of somebody.
type Person struct {
	PSID              string    `cel:"psid"`
	PageID            string    `cel:"page_id"`
	Locale            string    `cel:"locale"`
	Timezone          string    `cel:"timezone"`
	Tags              []string  `cel:"tags"`
	LastInteractionAt time.Time `cel:"last_interaction_at"`
}

// Product is what an expression sees of a sku.
type Product struct {
	SKU       string   `cel:"sku"`
	Title     string   `cel:"title"`
	URL       string   `cel:"url"`
	ImageURL  string   `cel:"image_url"`
	Tags      []string `cel:"tags"`
	Available int64    `cel:"available"`
}

// costLimit bounds the work of one evaluation: a segment over 64 tags costs a few hundred.
const costLimit = 100_000

var (
	tagEnv = sync.OnceValue(func() *cel.Env {
		return newEnv(cel.Variable("event", cel.ObjectType("rules.Event")), cel.Variable("person", cel.ObjectType("rules.Person")))
	})
	segmentEnv = sync.OnceValue(func() *cel.Env {
		return newEnv(cel.Variable("person", cel.ObjectType("rules.Person")), cel.Variable("topic", cel.StringType),
			cel.Variable("product", cel.ObjectType("rules.Product")))
	})
)

func newEnv(variables ...cel.EnvOption) *cel.Env {
	env, err := cel.NewEnv(append([]cel.EnvOption{
		ext.NativeTypes(ext.ParseStructTags(true), reflect.TypeFor[Event](), reflect.TypeFor[Person](), reflect.TypeFor[Product]()),
		ext.Strings(),
	}, variables...)...)
	if err != nil {
		panic(err) // the environment is a constant: a test would have found it
	}
	return env
}

// expression compiles and type-checks one expression whose result must be of one of the types.
func (c *compiler) expression(at located, field string, env *cel.Env, types ...*cel.Type) cel.Program {
	if at.text == "" {
		c.problem(at, field, "missing, expected a CEL expression")
		return nil
	}
	ast, issues := env.Compile(at.text)
	if err := issues.Err(); err != nil {
		c.problem(at, field, "%w", err)
		return nil
	}
	if !slices.ContainsFunc(types, func(t *cel.Type) bool { return t.IsExactType(ast.OutputType()) }) {
		c.problem(at, field, "is a %s, expected %s", ast.OutputType(), strings.Join(typeNames(types), " or "))
		return nil
	}
	program, err := env.Program(ast, cel.CostLimit(costLimit), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		c.problem(at, field, "%w", err)
	}
	return program
}

func typeNames(types []*cel.Type) []string {
	var names []string
	for _, t := range types {
		names = append(names, t.String())
	}
	return names
}

func evalBool(p cel.Program, in map[string]any) (bool, error) {
	out, _, err := p.Eval(in)
	if err != nil {
		return false, err
	}
	return out.Value() == true, nil
}

func evalStrings(p cel.Program, in map[string]any) ([]string, error) {
	out, _, err := p.Eval(in)
	if err != nil {
		return nil, err
	}
	if s, ok := out.Value().(string); ok {
		return []string{s}, nil
	}
	list, err := out.ConvertToNative(reflect.TypeFor[[]string]())
	if err != nil {
		return nil, fmt.Errorf("not a list of strings: %w", err)
	}
	return list.([]string), nil
}
