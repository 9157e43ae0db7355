package pace

import "time"

// clock turns moments of Redis' clock into moments here. An answer that was asked for at t0 and came at t1 says that
// Redis' "now" was between the two; the quickest answer of the last half minute is believed, so that all slots of a page
// keep their distance however long single answers take.
type clock struct {
	here   time.Time
	redis  int64 // µs, at `here`
	rtt    time.Duration
	learnt time.Time
}

func (c *clock) learn(asked, answered time.Time, now int64) {
	rtt := answered.Sub(asked)
	known := !c.learnt.IsZero() && answered.Sub(c.learnt) < 30*time.Second
	if known {
		// An answer that contradicts what is believed shows that a clock was set, or that another server answers.
		at := c.at(now)
		known = !at.Before(asked) && !at.After(answered)
	}
	if known && rtt >= c.rtt {
		return
	}
	c.here, c.redis, c.rtt, c.learnt = asked.Add(rtt/2), now, rtt, answered
}

// at is the moment here at which Redis' clock shows µs.
func (c *clock) at(micros int64) time.Time {
	return c.here.Add(time.Duration(micros-c.redis) * time.Microsecond)
}
