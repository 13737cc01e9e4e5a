package retriever

import "strings"

// linkNext returns the target with rel="next" in Link headers (RFC 8288), or "" if there is none.
func linkNext(headers []string) string {
	for _, h := range headers {
		for {
			_, rest, ok := strings.Cut(h, "<")
			if !ok {
				break
			}
			target, rest, ok := strings.Cut(rest, ">")
			if !ok {
				break
			}
			params, rest := linkParams(rest)
			for _, p := range params {
				name, value, _ := strings.Cut(p, "=")
				if !strings.EqualFold(strings.TrimSpace(name), "rel") {
					continue
				}
				for _, rel := range strings.Fields(strings.Trim(strings.TrimSpace(value), `"`)) {
					if strings.EqualFold(rel, "next") {
						return target
					}
				}
				break // only the first rel of a link counts
			}
			h = rest
		}
	}
	return ""
}

// linkParams splits the parameters of one link, up to the comma that ends it, and returns the rest after the comma.
func linkParams(s string) (params []string, rest string) {
	start, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && c == ';':
			params = append(params, s[start:i])
			start = i + 1
		case !quoted && c == ',':
			return append(params, s[start:i]), s[i+1:]
		}
	}
	return append(params, s[start:]), ""
}
