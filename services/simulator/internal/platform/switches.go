package platform

import (
	"fmt"
	"slices"
)

// Switches are the platform's behaviours that no source settles. The defaults are the careful reading.
type Switches struct {
	SpentToken     ErrorCode `env:"ONEBELL_SIMULATOR_SPENT_TOKEN" envDefault:"100" json:"spent_token" help:"error for a spent, expired, foreign or unknown one-time token: code or code/subcode"`
	TapOpensWindow bool      `env:"ONEBELL_SIMULATOR_TAP_OPENS_WINDOW" envDefault:"false" json:"tap_opens_window" help:"does tapping Notify me open the 24-hour window"`
	TapTwice       bool      `env:"ONEBELL_SIMULATOR_TAP_TWICE" envDefault:"false" json:"tap_twice" help:"can one card be tapped again for a second token"`
	EchoTokenSends bool      `env:"ONEBELL_SIMULATOR_ECHO_TOKEN_SENDS" envDefault:"true" json:"echo_token_sends" help:"do sends by token make echo, delivery and read webhooks"`
	FailureSpends  bool      `env:"ONEBELL_SIMULATOR_FAILURE_SPENDS" envDefault:"false" json:"failure_spends" help:"does a send refused because the person cannot be reached spend the token"`
	NeedsType      bool      `env:"ONEBELL_SIMULATOR_NEEDS_MESSAGING_TYPE" envDefault:"false" json:"needs_messaging_type" help:"is a send by token without messaging_type refused"`
	HideRecipient  bool      `env:"ONEBELL_SIMULATOR_HIDE_RECIPIENT" envDefault:"false" json:"hide_recipient" help:"does the answer to a send by token leave recipient_id out"`
	TitleUnit      string    `env:"ONEBELL_SIMULATOR_TITLE_UNIT" envDefault:"utf16" json:"title_unit" help:"what the 65 of a card's title count: runes, utf16 or bytes"`
}

// DefaultSwitches are the switches of a simulator whose environment says nothing.
func DefaultSwitches() Switches {
	return Switches{SpentToken: Invalid, EchoTokenSends: true, TitleUnit: "utf16"}
}

// Check names what is wrong with the switches.
func (s Switches) Check() error {
	if !slices.Contains([]string{"runes", "utf16", "bytes"}, s.TitleUnit) {
		return fmt.Errorf("title_unit is %q: expected runes, utf16 or bytes", s.TitleUnit)
	}
	if s.SpentToken.Code == 0 {
		return fmt.Errorf("spent_token is missing: expected a code like 100 or 10/2018278")
	}
	return nil
}
