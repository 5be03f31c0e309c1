package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// The part of CycloneDX 1.6 (ECMA-424) that a bill uses.
type (
	bom struct {
		Schema       string       `json:"$schema"`
		Format       string       `json:"bomFormat"`
		SpecVersion  string       `json:"specVersion"`
		SerialNumber string       `json:"serialNumber"`
		Version      int          `json:"version"`
		Metadata     metadata     `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
		Compositions []compos     `json:"compositions"`
	}
	metadata struct {
		Timestamp string    `json:"timestamp"`
		Component component `json:"component"`
	}
	component struct {
		Type       string     `json:"type"`
		Ref        string     `json:"bom-ref"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		Note       string     `json:"description,omitempty"`
		Hashes     []hash     `json:"hashes,omitempty"`
		Licences   []licence  `json:"licenses,omitempty"`
		PURL       string     `json:"purl,omitempty"`
		Properties []property `json:"properties,omitempty"`
	}
	hash struct {
		Alg     string `json:"alg"`
		Content string `json:"content"`
	}
	licence struct {
		Licence    *licenceID `json:"license,omitempty"`
		Expression string     `json:"expression,omitempty"`
	}
	licenceID struct {
		ID string `json:"id"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	dependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn,omitempty"`
	}
	compos struct {
		Aggregate  string   `json:"aggregate"`
		Assemblies []string `json:"assemblies"`
	}
)

// Properties of a library from Debian, by which check asks for newer ones; SUM is a Go module's, as go.sum has it.
const (
	propPackage = "aes-appliance:debian:package"
	propVersion = "aes-appliance:debian:version"
	propSum     = "aes-appliance:go:sum"
)

// writeSBOM writes the bill of one binary. Its serial number follows from the binary, so that one binary has one bill.
func writeSBOM(out io.Writer, binary, version string, at time.Time, modules, libraries []part) error {
	data, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	if version == "" {
		return fmt.Errorf("a bill wants a version")
	}
	digest := sha256.Sum256(data)
	root := component{Type: "application", Ref: "aes-appliance", Name: "aes-appliance", Version: version, PURL: "pkg:deb/veripath/aes-appliance@" +
		strings.ReplaceAll(version, "+", "%2B") + "?arch=amd64", Hashes: []hash{{"SHA-256", hex.EncodeToString(digest[:])}}}
	b := bom{Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6", SerialNumber: serial(digest), Version: 1,
		Metadata: metadata{at.Format(time.RFC3339), root}, Compositions: []compos{{"complete", []string{root.Ref}}}}
	all := dependency{Ref: root.Ref}
	for _, p := range slices.Concat(libraries, modules) {
		c := p.component()
		b.Components = append(b.Components, c)
		all.DependsOn = append(all.DependsOn, c.Ref)
	}
	b.Dependencies = []dependency{all}
	for _, p := range libraries { // SoftHSM2 is why the others are there
		if ref := p.component().Ref; p.name == "softhsm2" {
			d := dependency{Ref: ref}
			for _, q := range libraries {
				if q.name != p.name {
					d.DependsOn = append(d.DependsOn, q.component().Ref)
				}
			}
			b.Dependencies = append(b.Dependencies, d)
		}
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(b)
}

func (p part) component() component {
	c := component{Type: "library", Ref: p.name + "@" + p.version, Name: p.name, Version: p.version, Note: p.note, PURL: p.purl}
	if len(p.licences) == 1 && !strings.Contains(p.licences[0], " ") {
		c.Licences = []licence{{Licence: &licenceID{p.licences[0]}}}
	} else {
		c.Licences = []licence{{Expression: strings.Join(p.licences, " AND ")}}
	}
	// go.sum's h1 is a hash of a list of hashes, not of a file: CycloneDX has no name for it.
	if sum, isH1 := strings.CutPrefix(p.sum, "h1:"); isH1 {
		if _, err := base64.StdEncoding.DecodeString(sum); err == nil {
			c.Properties = append(c.Properties, property{propSum, p.sum})
		}
	}
	if d := p.debian; d != nil {
		c.Properties = append(c.Properties, property{propPackage, d.Package}, property{propVersion, d.Version})
	}
	return c
}

// serial makes a UUID (RFC 9562, version 8) of a digest.
func serial(digest [32]byte) string {
	u := digest[:16]
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
