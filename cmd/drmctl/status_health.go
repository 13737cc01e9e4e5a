package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm"
	"github.com/distributed-resource-manager/drm/cmd/drmctl/internal/output"
)

// memberHealthJSON is part of the JSON contract.
type memberHealthJSON struct {
	ID        string `json:"id"`
	State     string `json:"state"`
	Known     bool   `json:"known"` // it has written the figures that follow
	Claims    int    `json:"claims"`
	Active    int    `json:"active"`
	Failed    int    `json:"failed"`
	Calls     int    `json:"calls"`
	Waiting   int    `json:"waiting"`
	NoBudget  int    `json:"waiting_for_budget"`
	Stuck     int    `json:"stuck"`
	View      int64  `json:"view"`
	ViewLag   int64  `json:"view_behind"`
	LeaseTTL  *int64 `json:"lease_ttl_ms"`
	LeaseLeft *int64 `json:"lease_left_ms"`

	BudgetSince *time.Time `json:"budget_since"`
	StuckSince  *time.Time `json:"stuck_since"`
	BehindSince *time.Time `json:"view_behind_since"`
	Load        *float64   `json:"load"`
	LoadLimit   *float64   `json:"load_limit"`
}

// etcdHealthJSON is part of the JSON contract.
type etcdHealthJSON struct {
	Leader    string           `json:"leader"`
	Members   []etcdMemberJSON `json:"members"`
	Alarms    []string         `json:"alarms"`
	LatencyMS *float64         `json:"latency_ms"`
	Silent    []string         `json:"silent"`
	Unknown   []string         `json:"unknown"`
}

// etcdMemberJSON is part of the JSON contract.
type etcdMemberJSON struct {
	Name     string   `json:"name"`
	URLs     []string `json:"urls"`
	Learner  bool     `json:"learner"`
	State    string   `json:"state"`
	Error    string   `json:"error"`
	Version  string   `json:"version"`
	Database int64    `json:"database_bytes"`
	InUse    int64    `json:"in_use_bytes"`
	Quota    int64    `json:"quota_bytes"`
}

// warningJSON is part of the JSON contract.
type warningJSON struct {
	Code     string     `json:"code"`
	Severity string     `json:"severity"`
	What     string     `json:"what"`
	Since    *time.Time `json:"since"`
	Mend     string     `json:"mend"`
	About    []string   `json:"about"`
}

// inSeconds is a duration in seconds.
func inSeconds(d time.Duration) *float64 {
	s := d.Round(time.Millisecond).Seconds()
	return &s
}

func memberHealth(o drm.Overview) []memberHealthJSON {
	all := make([]memberHealthJSON, 0, len(o.Health))
	for _, h := range o.Health {
		m := memberHealthJSON{
			ID: h.ID, State: h.State, Known: h.Known, Claims: h.Resources, Active: h.Active, Failed: h.Failed,
			Calls: h.Calls, Waiting: h.Waiting, NoBudget: h.WaitingForBudget, Stuck: h.Stuck, View: h.View,
			ViewLag: h.ViewBehind, BudgetSince: utc(h.BudgetSince), StuckSince: utc(h.StuckSince),
			BehindSince: utc(h.ViewBehindSince),
		}
		if h.LeaseTTL > 0 {
			ttl, left := h.LeaseTTL.Milliseconds(), h.LeaseLeft.Milliseconds()
			m.LeaseTTL, m.LeaseLeft = &ttl, &left
		}
		if h.Load >= 0 {
			m.Load = &h.Load
		}
		if h.LoadLimit >= 0 {
			m.LoadLimit = &h.LoadLimit
		}
		all = append(all, m)
	}
	return all
}

func etcdHealth(e drm.EtcdHealth) etcdHealthJSON {
	object := etcdHealthJSON{
		Leader: e.Leader, Members: make([]etcdMemberJSON, 0, len(e.Members)), Alarms: append([]string{}, e.Alarms...),
		Silent: append([]string{}, e.Silent...), Unknown: append([]string{}, e.Unknown...),
	}
	if e.Latency > 0 {
		ms := float64(e.Latency.Microseconds()) / 1000
		object.LatencyMS = &ms
	}
	for _, m := range e.Members {
		one := etcdMemberJSON(m)
		one.URLs = append([]string{}, one.URLs...)
		object.Members = append(object.Members, one)
	}
	return object
}

func warningsJSON(warnings []drm.Warning) []warningJSON {
	all := make([]warningJSON, 0, len(warnings))
	for _, w := range warnings {
		all = append(all, warningJSON{
			w.Code, string(w.Severity), w.What, utc(w.Since), w.Mend, append([]string{}, w.About...),
		})
	}
	return all
}

// healthRows tells of the members and of etcd.
func healthRows(p *output.Page, o drm.Overview) {
	if o.SourcePoll > 0 {
		polled := fmt.Sprintf("every %v", o.SourcePoll)
		if !o.Source.LastSuccess.IsZero() {
			polled += fmt.Sprintf(", answered %v ago", since(o, o.Source.LastSuccess))
		}
		if o.SourceOverdue {
			polled += " (overdue)"
		}
		p.Row("source polled", polled)
	}
	if len(o.Health) > 0 {
		p.Line("")
		header := []string{
			"MEMBER", "STATE", "CLAIMS", "ACTIVE", "FAILED", "CALLS", "WAITING", "STUCK", "LEASE", "VIEW",
		}
		rows := make([][]any, 0, len(o.Health))
		for _, h := range o.Health {
			row := []any{h.ID, toned(h.State), "", "", "", "", "", "", renewalWords(h), viewWords(o, h)}
			if h.Known {
				copy(row[2:], []any{h.Resources, h.Active, h.Failed, h.Calls, h.Waiting, stuckWords(o, h)})
			}
			rows = append(rows, row)
		}
		p.Rows(header, rows)
	}
	if o.Leases != "" {
		p.Row("leases unknown", o.Leases)
	}
	etcdRows(p, o.Etcd)
}

// renewalWords say how much time a member's lease has left.
func renewalWords(h drm.MemberHealth) string {
	if h.LeaseTTL == 0 {
		return ""
	}
	return fmt.Sprintf("%v of %v", h.LeaseLeft.Round(time.Second), h.LeaseTTL.Round(time.Second))
}

// viewWords say how far behind a member is.
func viewWords(o drm.Overview, h drm.MemberHealth) string {
	switch {
	case h.View == 0:
		return ""
	case h.ViewBehind == 0:
		return "current"
	case h.ViewBehindSince.IsZero():
		return fmt.Sprintf("%d behind", h.ViewBehind)
	default:
		return fmt.Sprintf("%d behind for %v", h.ViewBehind, since(o, h.ViewBehindSince))
	}
}

// stuckWords say how many calls of a member are stuck, and for how long some have been.
func stuckWords(o drm.Overview, h drm.MemberHealth) string {
	if h.Stuck == 0 || h.StuckSince.IsZero() {
		return fmt.Sprint(h.Stuck)
	}
	return fmt.Sprintf("%d for %v", h.Stuck, since(o, h.StuckSince))
}

// since is how long ago a time was when the overview was read.
func since(o drm.Overview, t time.Time) time.Duration { return max(0, o.At.Sub(t)).Round(time.Second) }

// etcdRows tells of etcd.
func etcdRows(p *output.Page, e drm.EtcdHealth) {
	if len(e.Members)+len(e.Silent)+len(e.Unknown) == 0 && e.Latency == 0 {
		return // nobody has looked
	}
	p.Line("")
	p.Row("etcd leader", e.Leader)
	latency := ""
	if e.Latency > 0 {
		latency = e.Latency.Round(10 * time.Microsecond).String()
	}
	p.Row("etcd latency of a read", latency)
	for _, m := range e.Members {
		words := []string{m.State}
		if m.Error != "" {
			words[0] += " (" + m.Error + ")"
		}
		if m.Learner {
			words = append(words, "learner")
		}
		if m.Version != "" {
			words = append(words, "version "+m.Version, databaseWords(m))
		}
		p.Row("etcd member "+m.Name, tonedAs(strings.Join(words, ", "), m.State))
	}
	for _, s := range e.Silent {
		p.Row("etcd endpoint silent", output.Toned{Value: s, Tone: output.Bad})
	}
	for _, a := range e.Alarms {
		p.Row("etcd alarm", output.Toned{Value: a, Tone: output.Bad})
	}
	for _, u := range e.Unknown {
		p.Row("etcd unknown", u)
	}
}

// databaseWords say how large the database of an etcd is.
func databaseWords(m drm.EtcdMember) string {
	size := "database " + humanize.IBytes(uint64(max(0, m.Database)))
	if m.Quota == 0 {
		return size + " (etcd does not tell its quota)"
	}
	return fmt.Sprintf("%s of %s (%.0f %%)", size, humanize.IBytes(uint64(m.Quota)),
		100*float64(m.Database)/float64(m.Quota))
}

// warningRows tells what is wrong.
func warningRows(p *output.Page, o drm.Overview) {
	if len(o.Warnings) == 0 {
		return
	}
	p.Line("")
	for _, w := range o.Warnings {
		what := w.What
		if !w.Since.IsZero() {
			what += fmt.Sprintf(" [since %s]", cell(w.Since))
		}
		p.Row(tonedAs(w.Code+" "+string(w.Severity), string(w.Severity)), what)
		p.Row("to mend it", w.Mend)
	}
}

// noted are the codes of what is a note on stderr as well: what else shows only where somebody looks for it.
func noted() []string {
	return []string{"DRM001", "DRM003", "DRM005", "DRM006", "DRM008", "DRM009", "DRM023"}
}

// noteWarnings notes the worst of what is wrong on stderr.
func noteWarnings(c *cli.Context, warnings []drm.Warning) {
	for _, w := range warnings {
		if slices.Contains(noted(), w.Code) {
			note(c, "%s: %s", w.Code, w.What)
		}
	}
}
