package client

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/grpc"

	alertv1 "github.com/onebell/onebell/proto/onebell/alert/v1"
	"github.com/onebell/onebell/services/onebell/internal/exit"
)

// Explain asks what happened to somebody.
type Explain struct {
	Where
	Page       string `required:"" help:"Id of the page."`
	PSID       string `name:"psid" help:"Page-scoped id of a person." xor:"subject" required:"" placeholder:"ID"`
	Permission string `help:"Id of a permission." xor:"subject" required:"" placeholder:"ID"`
	Send       string `help:"Id of a send." xor:"subject" required:"" placeholder:"ID"`
}

// Run asks and prints; the status is 1 when nothing is known.
func (c Explain) Run(e *Env) error {
	conn, err := c.alertService(e)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	request := &alertv1.ExplainRequest{PageId: c.Page}
	switch {
	case c.PSID != "":
		request.Subject = &alertv1.ExplainRequest_Psid{Psid: c.PSID}
	case c.Permission != "":
		request.Subject = &alertv1.ExplainRequest_PermissionId{PermissionId: c.Permission}
	default:
		request.Subject = &alertv1.ExplainRequest_SendId{SendId: c.Send}
	}
	ctx, cancel := e.limited()
	defer cancel()
	answer, err := alertv1.NewAlertServiceClient(conn).Explain(ctx, request, grpc.WaitForReady(false))
	if err != nil {
		return refused(err)
	}
	if err := c.print(e, answer); err != nil {
		return err
	}
	if len(answer.GetSteps()) == 0 {
		return exit.No()
	}
	return nil
}

func (c Explain) print(e *Env, answer *alertv1.ExplainResponse) error {
	if c.JSON {
		document, err := object(answer, len(answer.GetSteps()) == 0)
		if err != nil {
			return err
		}
		return e.printJSON(document)
	}
	if len(answer.GetSteps()) == 0 {
		fmt.Fprintln(e.Err, "onebell: nothing is known of it on this page")
		return nil
	}
	var rows [][]string
	for _, s := range answer.GetSteps() {
		rows = append(rows, []string{at(s.GetAt()), stepName(s.GetKind()), s.GetVerdict(), s.GetTopic(), detail(s)})
	}
	return e.table([]string{"AT", "STEP", "VERDICT", "TOPIC", "WHY"}, rows)
}

// stepName is the kind as a reader says it: "opted in".
func stepName(k alertv1.StepKind) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(k.String(), "STEP_KIND_"), "_", " "))
}

func detail(s *alertv1.Step) string {
	var words []string
	for _, part := range []struct{ name, value string }{
		{"", s.GetReason()},
		{"try ", number(s.GetAttempt())},
		{"code ", number(s.GetCode())},
		{"subcode ", number(s.GetSubcode())},
		{"send ", s.GetSendId()},
		{"message ", s.GetMessageId()},
	} {
		if part.value != "" {
			words = append(words, part.name+part.value)
		}
	}
	return strings.Join(words, "; ")
}

func number(n int32) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(int(n))
}
