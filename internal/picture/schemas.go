package picture

import "github.com/distributed-resource-manager/drm/membership"

// SchemasOf describes, for people, which versions of what is in etcd are too far apart: those of two live members, or
// that of the app and the one that this program knows, so that what it shows may be wrong. It is empty if none are.
func SchemasOf(v *membership.View) string {
	if mixed := v.SchemasMixed(); mixed != "" {
		return mixed
	}
	return v.SchemasApart(membership.Schema)
}
