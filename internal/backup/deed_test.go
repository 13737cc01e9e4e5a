package backup_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-resource-manager/drm/internal/backup"
	"github.com/distributed-resource-manager/drm/internal/deed"
	"github.com/distributed-resource-manager/drm/internal/keys"
)

func TestAnAppThatHasOnlyARecordOfWhoIsEmptyAndTheMarkerSaysWhoDeletesIt(t *testing.T) {
	from := newApp(t)
	want := fill(t, from)
	text := dump(t, from, true)
	to := newApp(t)
	open(t, to)
	set(t, to, keys.At("").Deed(), deed.Deed{By: "ann"}.Encode())
	set(t, to, keys.At("").Deed()+"s", "?")
	_, err := to.Load(t.Context(), bytes.NewReader(text), backup.LoadOptions{})
	if !errors.Is(err, backup.ErrNotEmpty) {
		t.Errorf("the app has another key: %v", err)
	}
	if _, err := client.Delete(t.Context(), to.Layout.Deed()+"s"); err != nil {
		t.Fatal(err)
	}
	if _, err := to.Load(t.Context(), bytes.NewReader(text), backup.LoadOptions{}); err != nil {
		t.Errorf("the app has nothing else: %v", err)
	}
	same(t, all(t, to), want)

	set(t, to, keys.At("").Deed(), deed.Deed{By: "ann"}.Encode())
	to.Origin = deed.Origin{By: "bob", Why: "a test"}
	begin, err := client.Get(t.Context(), "none")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := to.Delete(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	same(t, all(t, to), map[string]string{})
	marked := client.Watch(t.Context(), to.Layout.Reshard(), clientv3.WithRev(begin.Header.Revision+1))
	if first := (<-marked).Events; len(first) == 0 || !strings.Contains(string(first[0].Kv.Value), `"by":"bob"`) {
		t.Errorf("the marker: %v", first)
	}
}
