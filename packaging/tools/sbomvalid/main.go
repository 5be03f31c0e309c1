// Command sbomvalid judges a bill of materials by CycloneDX's own published schema, which comes with its Go library.
//
//	sbomvalid SCHEMA_FOLDER FILE
package main

import (
	"fmt"
	"os"
	"path/filepath"

	_ "github.com/CycloneDX/cyclonedx-go" // whose folder has the schema
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: sbomvalid SCHEMA_FOLDER FILE")
		os.Exit(64)
	}
	if err := validate(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// validate compiles the schema with those that it refers to, which it names by address.
func validate(folder, path string) error {
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for name, file := range map[string]string{
		"bom-1.6.schema.json": "bom-1.6.schema.json", "spdx.schema.json": "spdx.schema.json", "jsf-0.82.schema.json": "jsf-0.82.schemax.json",
	} {
		f, err := os.Open(filepath.Join(folder, file))
		if err != nil {
			return err
		}
		schema, err := jsonschema.UnmarshalJSON(f)
		f.Close()
		if err != nil {
			return err
		}
		if err := c.AddResource("http://cyclonedx.org/schema/"+name, schema); err != nil {
			return err
		}
	}
	schema, err := c.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json")
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	bill, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		return err
	}
	return schema.Validate(bill)
}
