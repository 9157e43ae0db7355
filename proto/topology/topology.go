// Package topology is the table of streams: which subjects there are, who fills them, who reads them and how long they
// keep what they hold. It exists once, here; services make their subjects with the functions of this package.
// It opens no connection.
package topology

import (
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onebell/onebell/proto/ids"
)

// Streams by name.
const (
	Optins    = "OPTINS"
	People    = "PEOPLE"
	Events    = "EVENTS"
	Inventory = "INVENTORY"
	Waves     = "WAVES"
	Sends     = "SENDS"
	Outcomes  = "OUTCOMES"
	Tries     = "TRIES"
	Dead      = "DEAD"
)

// Products is the key-value bucket with the last known state of each shop and sku (onebell.inventory.v1.ProductState).
const Products = "PRODUCTS"

// Service is a program that writes or reads a stream.
type Service string

// The services, and two parties outside.
const (
	Ingestor  Service = "ingestor"
	Token     Service = "token"
	Alert     Service = "alert"
	Sender    Service = "sender"
	Console   Service = "console"
	Operators Service = "operators"         // people, with the command line
	Publisher Service = "inventory systems" // other people's programs
)

// Stream is one row of the table.
type Stream struct {
	Name      string
	Subjects  []string
	Writers   []Service
	Readers   []Service
	Retention jetstream.RetentionPolicy
	MaxAge    time.Duration // 0 means: no age limit
	// Duplicates is how long the server remembers message ids. A saving, never a guard: that a repeat is harmless
	// rests on the ids of the facts themselves. An id costs about 180 bytes of server memory while it lasts.
	Duplicates time.Duration
}

const day = 24 * time.Hour

// Table is the table of streams.
var Table = []Stream{
	// The platform gives up repeating a webhook after an hour, hence the duplicate window.
	{Optins, []string{"optins.*.*"}, []Service{Ingestor, Token}, []Service{Token, Alert}, jetstream.LimitsPolicy, 400 * day, time.Hour},
	// people.<page>.<shard> is about a person, people.<page>.-- about the page as a whole (see PageSubject); token writes both.
	{People, []string{"people.*.*"}, []Service{Token}, []Service{Token, Alert}, jetstream.LimitsPolicy, 0, 2 * time.Minute},
	{Events, []string{"events.*.*.*"}, []Service{Ingestor}, []Service{Token, Alert, Console}, jetstream.LimitsPolicy, 3 * day, 2 * time.Minute},
	{Inventory, []string{"inventory.>"}, []Service{Publisher, Alert}, []Service{Alert}, jetstream.LimitsPolicy, 7 * day, 2 * time.Minute},
	{Waves, []string{"waves.*"}, []Service{Alert}, []Service{Alert}, jetstream.WorkQueuePolicy, 0, 2 * time.Minute},
	{Sends, []string{"sends.*.urgent", "sends.*.normal"}, []Service{Alert, Sender}, []Service{Sender}, jetstream.WorkQueuePolicy, 0, 2 * time.Minute},
	{Outcomes, []string{"outcomes.*.*.*"}, []Service{Sender, Alert, Token}, []Service{Token, Alert, Console}, jetstream.LimitsPolicy, 400 * day, 2 * time.Minute},
	{Tries, []string{"tries.*"}, []Service{Sender}, []Service{Token, Alert}, jetstream.LimitsPolicy, 7 * day, 2 * time.Minute},
	{Dead, []string{"dead.*"}, []Service{Ingestor, Token, Alert, Sender}, []Service{Operators}, jetstream.LimitsPolicy, 30 * day, 2 * time.Minute},
}

// Configs is the table as the server wants it. A full stream refuses (DiscardNew): it never drops work undone.
// Replicas is 1 alone, 3 in a cluster.
func Configs(replicas int) []jetstream.StreamConfig {
	configs := make([]jetstream.StreamConfig, 0, len(Table))
	for _, s := range Table {
		configs = append(configs, jetstream.StreamConfig{
			Name: s.Name, Subjects: s.Subjects, Retention: s.Retention, MaxAge: s.MaxAge, Duplicates: s.Duplicates,
			Storage: jetstream.FileStorage, Discard: jetstream.DiscardNew, Replicas: replicas,
			AllowDirect: true,
		})
	}
	return configs
}

// ProductsConfig is the bucket PRODUCTS.
func ProductsConfig(replicas int) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket: Products, Description: "last known state of each shop and sku", History: 1,
		Storage: jetstream.FileStorage, Replicas: replicas,
	}
}

// OptinSubject is where a person's one-time opt-ins go. An empty psid means: no person.
func OptinSubject(pageID, psid string) string {
	return "optins." + SubjectToken(pageID) + "." + shard(psid)
}

// PersonSubject is where facts about a person go.
func PersonSubject(pageID, psid string) string {
	return "people." + SubjectToken(pageID) + "." + shard(psid)
}

// PageSubject is where facts about a page as a whole go (onebell.token.v1.PageFact): a pause is kept as long as a person's
// stop, in the same stream and by the same writer, so that a rebuild keeps it.
func PageSubject(pageID string) string { return PersonSubject(pageID, "") }

// IsPageSubject tells the subjects of PageSubject from those of people.
func IsPageSubject(subject string) bool { return strings.HasSuffix(subject, "."+ids.NoShard) }

// EventSubject is where an event of the platform goes. An empty psid means: no person.
func EventSubject(pageID, psid, kind string) string {
	return "events." + SubjectToken(pageID) + "." + shard(psid) + "." + SubjectToken(kind)
}

// InventorySubject is where an inventory event of kind "stock", "price" or "sale" goes. The last token is for filtering only.
func InventorySubject(kind, sku string) string { return "inventory." + kind + "." + SubjectToken(sku) }

// WaveSubject is where the waves of a page go.
func WaveSubject(pageID string) string { return "waves." + SubjectToken(pageID) }

// Urgency orders the sends of a page.
type Urgency string

// Urgent goes before normal.
const (
	Urgent Urgency = "urgent"
	Normal Urgency = "normal"
)

// SendSubject is where the packs of a page go.
func SendSubject(pageID string, u Urgency) string {
	return "sends." + SubjectToken(pageID) + "." + string(u)
}

// OutcomeSubject is where the outcome of a send under a permission of this shard goes.
func OutcomeSubject(pageID, shard, verdict string) string {
	return "outcomes." + SubjectToken(pageID) + "." + shard + "." + verdict
}

// TriesSubject is where the sender writes what it is about to send.
func TriesSubject(pageID string) string { return "tries." + SubjectToken(pageID) }

// DeadWebhooks is where webhook bodies go that cannot be read.
const DeadWebhooks = "dead.webhooks"

// DeadSubject is where messages of a stream go that are given up.
func DeadSubject(stream string) string { return "dead." + strings.ToLower(stream) }

// Headers on OPTINS and EVENTS, beside Nats-Msg-Id and traceparent. The ids in them are untouched.
const (
	HeaderPage       = "Onebell-Page"
	HeaderPerson     = "Onebell-Person"      // empty: no person
	HeaderKind       = "Onebell-Kind"        // "optin" on OPTINS, or KindRecord
	HeaderField      = "Onebell-Field"       // messaging, standby, messaging_handovers, changes
	HeaderEntryTime  = "Onebell-Entry-Time"  // RFC 3339, milliseconds; missing where entry.time is
	HeaderReceivedAt = "Onebell-Received-At" // RFC 3339, milliseconds
)

// KindRecord marks a message on OPTINS whose body is a onebell.token.v1.RecordItem (binary protobuf) instead of the platform's JSON.
const KindRecord = "record"

// Headers on dead sends, beside those that every dead letter has (package stream).
const (
	HeaderSendID       = "Onebell-Send-Id"
	HeaderPermissionID = "Onebell-Permission-Id"
	HeaderAlertID      = "Onebell-Alert-Id"
	HeaderAttempts     = "Onebell-Attempts"
	HeaderCode         = "Onebell-Code"
	HeaderSubcode      = "Onebell-Subcode"
)

// SubjectToken is s as one token of a subject: characters that a subject cannot hold become "_".
func SubjectToken(s string) string {
	if s == "" {
		return "_"
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '.' || r == '*' || r == '>' || r <= ' ' || r == 0x7f || r == '�':
			return '_'
		}
		return r
	}, s)
}

// ProductKey is the key of a shop's sku in PRODUCTS: letters, digits, "-" and "_" as they are, all other bytes as "=" and
// two hex digits, so that different skus never share a key.
func ProductKey(shop, sku string) string { return keyToken(shop) + "." + keyToken(sku) }

func keyToken(s string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'=', hexDigits[c>>4], hexDigits[c&15]})
	}
	return b.String()
}

func shard(psid string) string {
	if psid == "" {
		return ids.NoShard
	}
	return ids.Shard(psid)
}
