package ledger

// A person who was forgotten leaves a mark: for each stream the sequence up to which facts of theirs no longer count. It holds
// no id, only keyed hashes (package seal), so that facts that are read once more, or were missed by the erasure, change nothing.

func (s slot) forgotten() string { return string(s) + ":f" }

// marks are the fields under which facts of a stream about a person may be marked.
func (l *Ledger) marks(pageID, psid, stream string) []string {
	names := l.Names(pageID, psid)
	for i := range names {
		names[i] += " " + stream
	}
	return names
}

// Names are what a forgotten person is called: the first is for new marks.
func (l *Ledger) Names(pageID, psid string) []string { return l.keys.Names(pageID + "\n" + psid) }
