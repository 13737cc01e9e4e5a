package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
)

// forever is the value of a flag that sets no limit.
const forever = "forever"

// inRange checks the duration that a flag has.
func inRange(c *cli.Context, flag string, least, most time.Duration) error {
	if d := c.Duration(flag); d < least || d > most {
		return badFlag(flag, d.String(), fmt.Sprintf("%s to %s", least, most))
	}
	return nil
}

// either sets *to according to a flag: to one where the flag is first, and to other where it is second.
func either[T any](c *cli.Context, flag string, to *T, first string, one T, second string, other T) error {
	switch value := c.String(flag); value {
	case first:
		*to = one
	case second:
		*to = other
	default:
		return badFlag(flag, value, first+" or "+second)
	}
	return nil
}

// numberInRange checks the number that a flag has. A flag that is not given may be zero.
func numberInRange(c *cli.Context, flag string, least, most int) error {
	n := c.Int(flag)
	if n == 0 && !c.IsSet(flag) || n >= least && n <= most {
		return nil
	}
	want := fmt.Sprintf("%d to %d", least, most)
	if most == math.MaxInt {
		want = fmt.Sprintf("%d or more", least)
	}
	return badFlag(flag, fmt.Sprint(n), want)
}

// durationOrForever returns the duration that a flag has, and drm.Forever where the flag says "forever".
func durationOrForever(c *cli.Context, flag string, least, most time.Duration) (time.Duration, error) {
	text := c.String(flag)
	if text == forever {
		return drm.Forever, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < least || d > most {
		return 0, badFlag(flag, text, fmt.Sprintf("%s to %s, or %s", short(least), short(most), forever))
	}
	return d, nil
}

// short is the text of a duration without its trailing zeros: 24h, not 24h0m0s.
func short(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}
