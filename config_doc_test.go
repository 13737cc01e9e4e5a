package drm

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/distributed-resource-manager/drm/internal/configdoc"
)

// TestConfigDocHasEveryField holds docs/config.md against Config, EtcdConfig and ClientConfig: every field is there,
// nothing else is, and defaults and ranges are those of the code.
func TestConfigDocHasEveryField(t *testing.T) {
	rows, err := configdoc.Read("docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]configdoc.Row{}
	for _, row := range rows {
		for _, f := range row.Fields {
			documented[f] = row
		}
	}
	good := func() Config {
		return Config{
			App:          "app",
			Etcd:         EtcdConfig{Endpoints: []string{"x:1"}},
			Handler:      noHandler{},
			AllocateOnly: true,
		}
	}
	full, err := good().withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	check := func(prefix string, defaults reflect.Value, spoil func(field int, bad reflect.Value) error) {
		for i := range defaults.NumField() {
			f := defaults.Type().Field(i)
			name := prefix + f.Name
			known[name] = true
			row, ok := documented[name]
			if !ok {
				t.Errorf("%s is not in docs/config.md", name)
				continue
			}
			var bad reflect.Value
			var value string
			switch v := defaults.Field(i).Interface().(type) {
			case time.Duration:
				value, bad = v.String(), reflect.ValueOf(time.Duration(-1))
			case int:
				value, bad = fmt.Sprint(v), reflect.ValueOf(-1)
				if name == "Shards" {
					value = fmt.Sprint(DefaultShards)
				}
			case float64:
				value, bad = strconv.FormatFloat(v, 'f', -1, 64), reflect.ValueOf(-2.0)
			default:
				continue
			}
			if got := firstSpan(row.Default); plain(got) != plain(value) {
				t.Errorf("%s: the table has the default %s, the code %s", name, row.Default, value)
			}
			if f.Type == reflect.TypeFor[TerminatePolicy]() {
				continue
			}
			var input *InputError
			if err := spoil(i, bad); !errors.As(err, &input) {
				t.Errorf("%s: -1 is accepted", name)
			} else if plain(strings.TrimSuffix(row.Range, ", or 0")) != plain(input.Want) &&
				!strings.HasPrefix(
					plain(row.Range),
					plain(input.Want),
				) && !strings.Contains(row.Range, "HandleBackoff") && name != "LeaseTTL" {
				t.Errorf("%s: the table has the range %q, the code %q", name, row.Range, input.Want)
			}
		}
	}
	check("", reflect.ValueOf(full), func(field int, bad reflect.Value) error {
		cfg := good()
		reflect.ValueOf(&cfg).Elem().Field(field).Set(bad)
		_, err := cfg.withDefaults()
		return err
	})
	check("EtcdConfig.", reflect.ValueOf(full.Etcd), func(field int, bad reflect.Value) error {
		cfg := good()
		reflect.ValueOf(&cfg.Etcd).Elem().Field(field).Set(bad)
		_, err := cfg.withDefaults()
		return err
	})
	check("ClientConfig.", reflect.ValueOf(ClientConfig{}), func(field int, bad reflect.Value) error {
		cfg := ClientConfig{App: "app", Etcd: EtcdConfig{Endpoints: []string{"x"}}, Create: true}
		reflect.ValueOf(&cfg).Elem().Field(field).Set(bad)
		_, err := cfg.withDefaults()
		return err
	})
	for name := range documented {
		owner, _, dotted := strings.Cut(name, ".")
		if ours := !dotted || owner == "EtcdConfig" || owner == "ClientConfig"; ours && !known[name] {
			t.Errorf("docs/config.md has %s, which is no field", name)
		}
	}
}

func firstSpan(cell string) string {
	if _, rest, ok := strings.Cut(cell, "`"); ok {
		span, _, _ := strings.Cut(rest, "`")
		return span
	}
	return cell
}

var duration = regexp.MustCompile(`\b\d+[a-z0-9]*[a-z]\b`)

// plain makes durations that are spelled differently the same.
func plain(s string) string {
	return duration.ReplaceAllStringFunc(strings.TrimSpace(s), func(d string) string {
		if parsed, err := time.ParseDuration(d); err == nil {
			return parsed.String()
		}
		return d
	})
}

type noHandler struct{ Handler }
