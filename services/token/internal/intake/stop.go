package intake

import (
	"context"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
	"google.golang.org/protobuf/types/known/timestamppb"

	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
)

// wish is what a person said about messages in general.
type wish int

const (
	nothing wish = iota
	stop
	resume
)

// words are the whole messages, of one language, by which people ask for no more messages, and for messages again. A message
// that only contains one of them is talk: "when does the sale stop?". A word is left out when it is as good an answer to
// something else that a page asks: "cancel" (an order), "end", "no", "weiter", "alto" (a size), "seis" (a number).
type words struct{ stop, resume []string }

// everywhere is understood whatever the person's language: carriers and messengers have taught it to everybody.
var everywhere = words{
	stop:   []string{"stop", "stopall", "stop all", "stop it", "stop messages", "unsubscribe", "unsubscribe me", "opt out", "optout", "quit"},
	resume: []string{"start", "unstop", "resume", "subscribe", "resubscribe", "opt in", "optin"},
}

// byLanguage is the table, by the language of a locale like fr_FR. Accents are ignored when it is compared, for telephones
// are lazy with them. Without a known locale, or in a language that is not here, the words of all languages count.
var byLanguage = map[string]words{
	"cs": {stop: []string{"zastavit", "odhlásit", "odhlásit se", "zrušit odběr"}, resume: []string{"odebírat", "přihlásit odběr"}},
	"da": {stop: []string{"stop beskeder", "afmeld", "frameld"}, resume: []string{"genoptag", "tilmeld"}},
	"de": {
		stop:   []string{"stopp", "abmelden", "abbestellen", "austragen", "keine nachrichten mehr"},
		resume: []string{"starten", "anmelden", "abonnieren", "wieder anmelden"},
	},
	"el": {stop: []string{"στοπ", "διακοπή", "διαγραφή", "κατάργηση εγγραφής"}, resume: []string{"έναρξη", "εγγραφή"}},
	"en": everywhere,
	"es": {
		stop:   []string{"parar", "detener", "baja", "darme de baja", "cancelar suscripción", "no más mensajes"},
		resume: []string{"reanudar", "suscribir", "suscribirme", "alta"},
	},
	"fi": {stop: []string{"lopeta", "peru tilaus"}, resume: []string{"aloita", "jatka"}},
	"fr": {
		stop:   []string{"arrêt", "arrêter", "arrête", "arrêtez", "désabonner", "me désabonner", "se désabonner", "désinscrire", "désinscription", "plus de messages"},
		resume: []string{"reprendre", "reprise", "abonner", "m'abonner", "s'abonner", "réabonner"},
	},
	"hu": {stop: []string{"állj", "leiratkozás", "leiratkozom"}, resume: []string{"feliratkozás", "feliratkozom"}},
	"id": {stop: []string{"berhenti", "berhenti berlangganan"}, resume: []string{"mulai lagi", "berlangganan"}},
	"it": {
		stop:   []string{"ferma", "fermare", "basta", "disiscriviti", "disiscrivimi", "annulla iscrizione", "cancellami"},
		resume: []string{"riprendi", "iscriviti", "iscrivimi"},
	},
	"ja": {stop: []string{"ストップ", "停止", "配信停止", "登録解除"}, resume: []string{"再開", "配信再開"}},
	"ko": {stop: []string{"중지", "수신거부", "수신 거부", "구독취소", "구독 취소"}, resume: []string{"재개", "수신동의", "수신 동의"}},
	"nb": {stop: []string{"stopp", "meld av", "avmeld"}, resume: []string{"gjenoppta", "meld på"}},
	"nl": {stop: []string{"stoppen", "afmelden", "uitschrijven", "geen berichten meer"}, resume: []string{"hervatten", "aanmelden", "inschrijven"}},
	"pl": {stop: []string{"wypisz", "wypisz mnie", "rezygnuję", "zatrzymaj"}, resume: []string{"wznów", "zapisz mnie"}},
	"pt": {
		stop:   []string{"pare", "parar", "sair", "descadastrar", "cancelar inscrição", "cancelar subscrição"},
		resume: []string{"retomar", "inscrever", "subscrever"},
	},
	"ro": {stop: []string{"oprește", "dezabonare", "dezabonează-mă"}, resume: []string{"reia", "abonare"}},
	"ru": {stop: []string{"стоп", "отписаться", "отписка", "хватит"}, resume: []string{"старт", "возобновить", "подписаться"}},
	"sv": {stop: []string{"stopp", "avregistrera", "avanmäl"}, resume: []string{"återuppta", "prenumerera"}},
	"tr": {stop: []string{"dur", "durdur", "abonelikten çık"}, resume: []string{"başlat", "abone ol"}},
	"uk": {stop: []string{"стоп", "відписатися", "припинити"}, resume: []string{"старт", "відновити", "підписатися"}},
	"zh": {stop: []string{"停止", "退订", "退訂", "取消订阅", "取消訂閱"}, resume: []string{"恢复", "恢復", "订阅", "訂閱"}},
}

// Payloads of postbacks and quick replies, whatever the language: those of the platform's own buttons and of common bots.
var (
	stopPayloads   = []string{"STOP", "STOP_NOTIFICATIONS", "UNSUBSCRIBE"}
	resumePayloads = []string{"START", "RESUME", "RESUME_NOTIFICATIONS", "SUBSCRIBE"}
)

// plain maps what a message is compared by to what it says, by language; "" holds all languages.
var plain = func() map[string]map[string]wish {
	table := map[string]map[string]wish{"": {}}
	for language, own := range byLanguage {
		table[language] = map[string]wish{}
		for _, to := range []map[string]wish{table[language], table[""]} {
			for _, w := range []words{everywhere, own} {
				for _, s := range w.stop {
					to[simplify(s)] = stop
				}
				for _, s := range w.resume {
					to[simplify(s)] = resume
				}
			}
		}
	}
	// A word that stops in one language is a stop when the language is not known.
	for _, own := range byLanguage {
		for _, s := range own.stop {
			table[""][simplify(s)] = stop
		}
	}
	return table
}()

// maxWords bounds, in bytes, a message that can be one of the words: longer ones are not looked at.
const maxWords = 200

// simplify is a message without case, accents, punctuation (an apostrophe, too) and spare spaces.
func simplify(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.Is(unicode.Mn, r), unicode.Is(unicode.Cf, r), r == '\uFE0F':
			return -1
		case unicode.IsLetter(r), unicode.IsDigit(r):
			return unicode.ToLower(r)
		case unicode.IsSpace(r), r == '-', r == '_':
			return ' '
		}
		return -1 // punctuation, signs, pictures
	}, norm.NFKD.String(text))
	return norm.NFC.String(strings.Join(strings.Fields(text), " "))
}

// wishOf is what a person's doing says about messages in general. A stop counts wherever it is said. A resume must be meant
// for this page's bot: one said to another app (standby), or the label of a button whose payload means something else, is
// not. Opt-ins that stop or resume recurring notifications are about one token of theirs and say nothing about permissions
// for one message, which the person has given one by one: they have neither text nor payload here.
func wishOf(said Said, locale string) wish {
	payload := strings.ToUpper(strings.TrimSpace(said.Payload))
	if slices.Contains(stopPayloads, payload) {
		return stop
	}
	var word wish
	if len(said.Text) <= maxWords {
		language, _, _ := strings.Cut(strings.ReplaceAll(strings.ToLower(locale), "-", "_"), "_")
		if language == "no" || language == "nn" {
			language = "nb"
		}
		table, known := plain[language]
		if !known {
			table = plain[""]
		}
		word = table[simplify(said.Text)]
	}
	switch {
	case word == stop:
		return stop
	case said.Kind == kindStandby:
		return nothing
	case slices.Contains(resumePayloads, payload), word == resume && payload == "":
		return resume
	}
	return nothing
}

// heed says on PEOPLE that a person asked for no more messages, or for messages again. It happens after something later was
// said about that, too, when the platform or JetStream repeats an event or is late with it: then it changes nothing.
func (in *Intake) heed(ctx context.Context, page, psid string, said Said, w wish, id string) error {
	// One at a time for each person, so that of two events that are worked at once the earlier is not said last. (With
	// several token services that is left to how fast people type.)
	turn := &in.turns[int(psid[len(psid)-1])%len(in.turns)]
	turn.Lock()
	defer turn.Unlock()
	last, err := in.Ledger.WishedAt(ctx, page, psid)
	if err != nil || !said.At.After(last) {
		return err
	}
	fact := &tokenv1.PersonFact{PageId: page, Psid: psid, At: timestamppb.New(said.At)}
	switch w {
	case stop:
		fact.What = &tokenv1.PersonFact_Stopped{Stopped: &tokenv1.Stopped{}}
		id = "stop:" + id
	case resume:
		fact.What = &tokenv1.PersonFact_Resumed{Resumed: &tokenv1.Resumed{}}
		id = "resume:" + id
	case nothing:
		return nil
	}
	changed, err := in.Say(ctx, fact, id)
	if err != nil {
		return err
	}
	in.Log.Info("a person said whether to get messages", "page", page, "stop", w == stop, "permissions", changed)
	return nil
}
