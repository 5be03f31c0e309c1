package config

// Description is what the table of keys says, for those who document it.
type Description struct{ Sections []SectionDescription }

// SectionDescription is one table of a file; the first has no name: its keys stand before every section.
type SectionDescription struct {
	Name, Doc string
	Keys      []KeyDescription
}

// KeyDescription is one key. Example and Default are TOML; Default is "" for a key that must be set.
type KeyDescription struct {
	Name, Doc, Example, Default string
	Mandatory                   bool
}

// Document describes the appliance's file.
func Document() Description { return appliance().describe() }

// ReceiverDocument describes the backup host's file.
func ReceiverDocument() Description { return receiver().describe() }

func (doc document) describe() (d Description) {
	at := map[string]int{}
	for _, k := range doc.keys {
		i, seen := at[k.section]
		if !seen {
			i = len(d.Sections)
			at[k.section] = i
			s := SectionDescription{Name: k.section}
			for _, known := range doc.sections {
				if known.name == k.section {
					s.Doc = known.doc
				}
			}
			d.Sections = append(d.Sections, s)
		}
		description := KeyDescription{Name: k.name, Doc: k.doc, Example: literal(k.example), Mandatory: k.mandatory()}
		if !k.mandatory() {
			description.Default = literal(k.fallback)
		}
		d.Sections[i].Keys = append(d.Sections[i].Keys, description)
	}
	return d
}
