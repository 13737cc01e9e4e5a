package retriever

import "testing"

func TestAnAnswerMayHave256MiBWhereNothingElseWasSaid(t *testing.T) {
	const want = 256 << 20
	if DefaultMaxBytes != want {
		t.Errorf("DefaultMaxBytes is %d", DefaultMaxBytes)
	}
	for name, opts := range map[string]DecodeOptions{
		"Decode": {}, "HTTP": (&HTTPConfig{}).decodeOptions(), "file": FileConfig{}.decodeOptions(),
	} {
		if c := newCollector(opts); c.limit != want {
			t.Errorf("%s: the limit is %d", name, c.limit)
		}
	}
	small := HTTPConfig{MaxBytes: 7}
	if c := newCollector(small.decodeOptions()); c.limit != 7 {
		t.Errorf("the limit is %d, want 7", c.limit)
	}
}
