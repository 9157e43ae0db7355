package client

import (
	"encoding/json"
	"fmt"

	"google.golang.org/grpc"

	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
)

// People is what people may ask of a business about themselves.
type People struct {
	Forget forgetPerson `cmd:"" help:"Erase a person: permissions, tags and every message about them. It cannot be undone."`
	Export exportPerson `cmd:"" help:"Print everything that is held about a person, as JSON, without tokens."`
}

type forgetPerson struct {
	Where
	Page     string `help:"Id of the page." xor:"pages" required:"" placeholder:"ID"`
	AllPages bool   `help:"On every page on which something is held under this id." xor:"pages" required:""`
	PSID     string `name:"psid" required:"" help:"Page-scoped id of the person." placeholder:"ID"`
}

// Help is shown below the flags.
func (forgetPerson) Help() string {
	return `What the person does afterwards counts again. When the command ends early, run it again: it goes on where it was.`
}

// Run asks and prints.
func (c forgetPerson) Run(e *Env) error {
	conn, err := c.tokenService(e)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := e.limited()
	defer cancel()
	answer, err := tokenv1.NewTokenServiceClient(conn).ForgetPerson(ctx,
		&tokenv1.ForgetPersonRequest{PageId: c.Page, Psid: c.PSID}, grpc.WaitForReady(false))
	if err != nil {
		return refused(err)
	}
	if c.JSON {
		document, err := object(answer, true)
		if err != nil {
			return err
		}
		return e.printJSON(document)
	}
	_, err = fmt.Fprintf(e.Out, "forgotten; permissions erased: %d\n", answer.GetPermissions())
	return err
}

type exportPerson struct {
	Where
	Page string `required:"" help:"Id of the page." placeholder:"ID"`
	PSID string `name:"psid" required:"" help:"Page-scoped id of the person." placeholder:"ID"`
}

// Run asks until the last part is there, and prints one document; the status is 1 when nothing is held.
func (c exportPerson) Run(e *Env) error {
	conn, err := c.tokenService(e)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := e.limited()
	defer cancel()
	request := &tokenv1.ExportPersonRequest{PageId: c.Page, Psid: c.PSID}
	var whole *personExport
	for {
		answer, err := tokenv1.NewTokenServiceClient(conn).ExportPerson(ctx, request, grpc.WaitForReady(false))
		if err != nil {
			return refused(err)
		}
		part := personExport{Permissions: []json.RawMessage{}} // an empty list rather than null
		if err := json.Unmarshal([]byte(answer.GetJson()), &part); err != nil {
			return fmt.Errorf("the service answered no JSON: %w", err)
		}
		if whole == nil {
			whole = &part
		} else {
			whole.Facts = append(whole.Facts, part.Facts...)
		}
		if request.Cursor = answer.GetCursor(); request.GetCursor() == "" {
			return e.printJSON(whole)
		}
	}
}

// personExport is the JSON of ExportPerson, as far as its parts are put together.
type personExport struct {
	PageID      string            `json:"page_id"`
	PSID        string            `json:"psid"`
	Person      json.RawMessage   `json:"person,omitempty"`
	Permissions []json.RawMessage `json:"permissions"`
	Facts       []json.RawMessage `json:"facts"`
}
