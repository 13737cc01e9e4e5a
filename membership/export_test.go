package membership

// MixesSchemas says whether the older rules count besides the newer ones.
func (v *View) MixesSchemas() bool { return v.older != nil }

// Encoded returns the value of a decline's key.
func (d Decline) Encoded() string { return d.encode() }
