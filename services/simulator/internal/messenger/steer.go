package messenger

import (
	"slices"
	"time"

	"github.com/onebell/onebell/services/simulator/internal/memory"
	"github.com/onebell/onebell/services/simulator/internal/platform"
)

// Faults in force.
func (m *Messenger) Faults() Faults {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.faults
}

// SetFaults replaces the faults.
func (m *Messenger) SetFaults(f Faults) error {
	if err := f.Check(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = f
	return nil
}

// Play draws what happens to a call of a page.
func (m *Messenger) Play(page string) Play { return m.Faults().play(page) }

// Switches in force.
func (m *Messenger) Switches() platform.Switches {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.world.Switches
}

// SetSwitches replaces the switches.
func (m *Messenger) SetSwitches(s platform.Switches) error {
	if err := s.Check(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.world.Switches = s
	return nil
}

// Fields that a page's app is subscribed to.
func (m *Messenger) Fields(page string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if fields, ok := m.fields[page]; ok {
		return slices.Clone(fields)
	}
	return slices.Clone(platform.Fields)
}

// Subscribe sets the fields that a page's app wants.
func (m *Messenger) Subscribe(page string, fields []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fields[page] = fields
}

// Tokens counts a page's tokens.
func (m *Messenger) Tokens(page string) platform.TokenCount {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.world.CountTokens(page, m.now())
}

// WaitingWebhooks is how many webhooks the app has not yet answered with 200.
func (m *Messenger) WaitingWebhooks() int { return m.queue.Waiting() }

// Journal lists up to limit lines after a seq, oldest first; what narrows it to one kind.
func (m *Messenger) Journal(after int64, what string, limit int) []Line {
	return m.journal.after(after, what, limit)
}

// Newest lists the newest lines, newest first.
func (m *Messenger) Newest(limit int) []Line { return m.journal.last(limit) }

// Note adds a line to the journal.
func (m *Messenger) Note(l Line) {
	l.At = time.Now().UTC()
	m.journal.add(l)
	m.Tell("log")
}

// Remember keeps a record of somebody else's over restarts.
func (m *Messenger) Remember(r memory.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.memory.Append(r)
}
