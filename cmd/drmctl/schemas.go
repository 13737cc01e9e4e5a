package main

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/distributed-resource-manager/drm"
)

// printed has what each command prints as JSON: values of the types, of which only the types count. A command that
// prints objects of several types, one after the other or by its flags, has all of them.
func printed() map[string][]any {
	return map[string][]any{
		"allocate":          {allocatedJSON{}, assignmentJSON{}, bulkAllocatedJSON{}},
		"assignments":       {[]assignmentJSON{}, watchedJSON[assignmentJSON]{}},
		"app create":        {createdAppJSON{}},
		"app delete":        {deletedAppJSON{}},
		"app describe":      {describedAppJSON{}},
		"apps":              {[]appJSON{}, watchedJSON[appJSON]{}},
		"load":              {loadedJSON{}},
		"plan":              {planJSON{}},
		"explain":           {explanationJSON{}},
		"describe member":   {memberDetailJSON{}, watchedJSON[memberDetailJSON]{}},
		"describe resource": {resourceDetailJSON{}, watchedJSON[resourceDetailJSON]{}},
		"describe shard":    {shardDetailJSON{}, watchedJSON[shardDetailJSON]{}},
		"bench":             {[]benchJSON{}},
		"cordon":            {cordonJSON{}, planJSON{}},
		"deallocate":        {deallocatedJSON{}, bulkDeallocatedJSON{}},
		"demo":              {summary{}},
		"doctor":            {[]checkJSON{}},
		"drain":             {drainedJSON{}, planJSON{}},
		"debug":             {debugJSON{}},
		"etcd":              {endpointJSON{}},
		"events":            {eventJSON{}},
		"lookup":            {assignmentJSON{}, watchedJSON[assignmentJSON]{}},
		"members":           {[]memberJSON{}, memberJSON{}},
		"move":              {moveJSON{}, planJSON{}},
		"pin":               {pinJSON{}, planJSON{}},
		"pins":              {[]orderJSON{}, orderJSON{}},
		"rebalance":         {rebalanceJSON{}, planJSON{}},
		"reshard":           {reshardJSON{}},
		"resources":         {[]resourceJSON{}, watchedJSON[resourceJSON]{}},
		"resume":            {suspendedJSON{}},
		"retry":             {retriedJSON{}},
		"schema":            {[]string{}, json.RawMessage{}},
		"simulate":          {simulationJSON{}},
		"source accept":     {acceptJSON{}},
		"source drop":       {droppedJSON{}},
		"source fetch":      {fetchJSON{}},
		"status":            {statusJSON{}},
		"suspend":           {suspendedJSON{}},
		"fetch":             {fetchJSON{}},
		"forget-source":     {droppedJSON{}},
		"uncordon":          {cordonJSON{}},
		"undrain":           {drainedJSON{}},
		"unpin":             {pinJSON{}},
		"verify":            {[]violationJSON{}, violationJSON{}, ownerJSON{}},
		"version":           {versionJSON{}},
		"weight":            {weightJSON{}, planJSON{}},
	}
}

// unprinted lists the commands that print no JSON: text in a form of its own, or what the programs print that they run.
func unprinted() []string {
	return []string{"agent", "completion", "dump", "man", "run", completeName, namesName}
}

// resourceJSON is what drm.CatalogueEntry writes as JSON.
type resourceJSON struct {
	ID     string          `json:"id"`
	Shard  int             `json:"shard"`
	Origin string          `json:"origin"`
	State  string          `json:"state"`
	Data   json.RawMessage `json:"data"`

	Suspension *drm.Suspension `json:"suspension,omitempty"`
}

// withSchema lists the commands that print JSON, in order.
func withSchema() []string { return slices.Sorted(maps.Keys(printed())) }

// schemaOf returns the JSON Schema of what a command prints; nil if it prints no JSON.
func schemaOf(command string) *jsonschema.Schema {
	values := printed()[command]
	if len(values) == 0 {
		return nil
	}
	r := &jsonschema.Reflector{Anonymous: true, DoNotReference: true}
	all := make([]*jsonschema.Schema, len(values))
	for i, v := range values {
		all[i] = r.Reflect(v)
		all[i].Version = ""
		admitNull(all[i], reflect.TypeOf(v))
	}
	s := all[0]
	if len(all) > 1 {
		s = &jsonschema.Schema{AnyOf: all}
	}
	s.Version = jsonschema.Version
	s.Title = "drmctl " + command + " -o json"
	return s
}

// admitNull lets the fields of a type be null that are pointers, and that are not left out instead.
func admitNull(s *jsonschema.Schema, t reflect.Type) {
	switch t.Kind() {
	case reflect.Pointer:
		admitNull(s, t.Elem())
	case reflect.Slice, reflect.Array:
		if s.Items != nil {
			admitNull(s.Items, t.Elem())
		}
	case reflect.Map:
		if s.AdditionalProperties != nil {
			admitNull(s.AdditionalProperties, t.Elem())
		}
	case reflect.Struct:
		if s.Properties == nil { // such as a time
			return
		}
		for _, f := range reflect.VisibleFields(t) {
			name, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
			property, there := s.Properties.Get(name)
			if !there || f.Anonymous {
				continue
			}
			admitNull(property, f.Type)
			if f.Type.Kind() == reflect.Pointer && !strings.Contains(rest, "omit") {
				s.Properties.Set(name, &jsonschema.Schema{
					AnyOf: []*jsonschema.Schema{property, {Type: "null"}},
				})
			}
		}
	default:
	}
}
