package portal

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// document is the part of an OpenAPI document that the page about the API shows.
type document struct {
	Info struct {
		Version string `json:"version"`
	} `json:"info"`
	Tags []struct {
		Name string `json:"name"`
		Text string `json:"description"`
	} `json:"tags"`
	Paths      map[string]map[string]documentOperation `json:"paths"`
	Components struct {
		Schemas map[string]schema `json:"schemas"`
	} `json:"components"`
}

type documentOperation struct {
	ID         string           `json:"operationId"`
	Summary    string           `json:"summary"`
	Text       string           `json:"description"`
	Tags       []string         `json:"tags"`
	Security   []map[string]any `json:"security"`
	Parameters []struct {
		Name     string `json:"name"`
		In       string `json:"in"`
		Text     string `json:"description"`
		Required bool   `json:"required"`
		Schema   schema `json:"schema"`
	} `json:"parameters"`
	Body      media            `json:"requestBody"`
	Responses map[string]media `json:"responses"`
}

type media struct {
	Content map[string]struct {
		Schema schema `json:"schema"`
	} `json:"content"`
}

type schema struct {
	Ref        string            `json:"$ref"`
	Type       any               `json:"type"`
	Format     string            `json:"format"`
	Text       string            `json:"description"`
	Enum       []any             `json:"enum"`
	Examples   []any             `json:"examples"`
	Properties map[string]schema `json:"properties"`
	Required   []string          `json:"required"`
	Items      *schema           `json:"items"`
}

func (d document) reference() reference {
	r := reference{Version: d.Info.Version}
	for _, tag := range d.Tags {
		g := referenceGroup{Name: strings.ToUpper(tag.Name[:1]) + tag.Name[1:], Text: tag.Text}
		for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
			for _, method := range slices.Sorted(maps.Keys(d.Paths[path])) {
				if op := d.Paths[path][method]; slices.Contains(op.Tags, tag.Name) {
					g.Operations = append(g.Operations, d.operation(strings.ToUpper(method), path, op))
				}
			}
		}
		// What everything else is about comes first.
		slices.SortStableFunc(g.Operations, func(a, b referenceOperation) int { return rank(a.ID) - rank(b.ID) })
		r.Groups = append(r.Groups, g)
	}
	return r
}

func rank(id string) int {
	if id == "sign" {
		return 0
	}
	return 1
}

func (d document) operation(method, path string, op documentOperation) referenceOperation {
	o := referenceOperation{ID: op.ID, Method: method, Path: path, Summary: op.Summary, Text: op.Text, Token: len(op.Security) > 0}
	for _, p := range op.Parameters {
		o.Parameters = append(o.Parameters, referenceField{Name: p.Name, Kind: p.In, Text: p.Text, Required: p.Required})
	}
	o.Takes, o.Body = d.media(op.Body)
	o.Gives, o.Answer = d.media(op.Responses["200"])
	return o
}

// media returns the content types, and the fields of what is JSON.
func (d document) media(m media) (types string, fields []referenceField) {
	if c, ok := m.Content["application/json"]; ok {
		fields = d.fields(c.Schema, "", 0)
	}
	return strings.Join(slices.Sorted(maps.Keys(m.Content)), ", "), fields
}

// fields lists the properties of an object, those of objects in it under their path.
func (d document) fields(s schema, under string, depth int) []referenceField {
	s = d.resolve(s)
	if depth > 3 {
		return nil
	}
	var list []referenceField
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p := d.resolve(s.Properties[name])
		list = append(list, referenceField{Name: under + name, Kind: kind(p), Text: text(p), Required: slices.Contains(s.Required, name)})
		if p.Items != nil {
			list = append(list, d.fields(*p.Items, under+name+"[].", depth+1)...)
		}
		list = append(list, d.fields(p, under+name+".", depth+1)...)
	}
	return list
}

func (d document) resolve(s schema) schema {
	if s.Ref == "" {
		return s
	}
	return d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
}

func kind(s schema) string {
	k := fmt.Sprint(s.Type)
	if types, ok := s.Type.([]any); ok && len(types) > 0 {
		k = fmt.Sprint(types[0])
	}
	if s.Format == "date-time" {
		return "time"
	}
	return k
}

func text(s schema) string {
	t := s.Text
	if len(s.Enum) > 0 {
		words := make([]string, len(s.Enum))
		for i := range s.Enum {
			words[i] = fmt.Sprint(s.Enum[i])
		}
		t = strings.TrimSpace(t + " One of " + strings.Join(words, ", ") + ".")
	}
	if len(s.Examples) > 0 {
		t = strings.TrimSpace(fmt.Sprintf("%s For instance %s.", t, strings.TrimSuffix(fmt.Sprint(s.Examples[0]), ".")))
	}
	return t
}
