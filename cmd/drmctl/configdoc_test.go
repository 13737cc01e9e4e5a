package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/distributed-resource-manager/drm/handler"
	"github.com/distributed-resource-manager/drm/internal/configdoc"
	"github.com/distributed-resource-manager/drm/retriever"
)

// TestConfigDocHasEveryFlag compares docs/config.md with the flags: it has every flag and environment variable with its
// default, and no others.
func TestConfigDocHasEveryFlag(t *testing.T) {
	rows, err := configdoc.Read("../../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	app := testApp()
	flags := slices.Clone(app.Flags)
	for _, c := range allCommands(app) {
		for _, f := range c.Flags {
			if v, ok := f.(cli.VisibleFlag); ok && v.IsVisible() {
				flags = append(flags, f)
			}
		}
	}
	used := map[string]bool{}
	for _, f := range flags {
		name := f.Names()[0]
		if name == flagHelp {
			continue
		}
		env := f.(cli.DocGenerationFlag).GetEnvVars()[0]
		used[env] = true
		at := slices.IndexFunc(rows, func(r configdoc.Row) bool {
			return slices.Contains(r.Flags, "--"+name) && slices.Contains(r.Env, env)
		})
		if at < 0 {
			t.Errorf("--%s with %s is not in docs/config.md", name, env)
			continue
		}
		if v := f.(cli.DocGenerationFlag).GetValue(); v != "" && v != "[]" &&
			!strings.Contains(rows[at].Default, strings.Trim(v, `"`)) {
			t.Errorf("--%s: the table has the default %s, the code %s", name, rows[at].Default, v)
		}
	}
	for _, row := range rows {
		for _, env := range row.Env {
			if !used[env] {
				t.Errorf("docs/config.md has %s, which no flag has", env)
			}
		}
	}
}

// TestConfigDocHasTheFieldsOfSourcesAndHandlers compares it with the structs of the packages retriever and handler.
func TestConfigDocHasTheFieldsOfSourcesAndHandlers(t *testing.T) {
	rows, err := configdoc.Read("../../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, row := range rows {
		for _, f := range row.Fields {
			if owner, _, dotted := strings.Cut(f, "."); dotted && owner != "EtcdConfig" && owner != "ClientConfig" {
				documented[f] = true
			}
		}
	}
	for _, config := range []any{
		retriever.HTTPConfig{},
		retriever.FileConfig{},
		retriever.SQLConfig{},
		retriever.DecodeOptions{},
		handler.WebhookConfig{},
		handler.ExecConfig{},
		handler.LoopConfig{},
		handler.RetryConfig{},
	} {
		typ := reflect.TypeOf(config)
		for i := range typ.NumField() {
			name := fmt.Sprintf("%s.%s", typ.Name(), typ.Field(i).Name)
			if !documented[name] {
				t.Errorf("%s is not in docs/config.md", name)
			}
			delete(documented, name)
		}
	}
	for name := range documented {
		t.Errorf("docs/config.md has %s, which is no field", name)
	}
}
