package jwt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// decode reads one JSON object into v. A name given twice, or once more in other case, is refused: encoding/json takes the last of both, other
// readers the first (RFC 7519 §4 leaves it open), and what one of them checked the other would not see.
func decode(raw []byte, v any) error {
	if err := checkNames(raw); err != nil {
		return err
	}
	return json.Unmarshal(raw, v)
}

func checkNames(raw []byte) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.Join(errors.New("not a JSON object"), err)
	}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		name, ok := t.(string)
		if !ok {
			return errors.New("not a JSON object")
		}
		folded := strings.ToUpper(strings.ToLower(name)) // "ſ" and "K" fold to ASCII letters too
		if seen[folded] {
			return fmt.Errorf("the name %.40q stands twice", name)
		}
		seen[folded] = true
		var skip json.RawMessage
		if err := d.Decode(&skip); err != nil {
			return err
		}
	}
	return nil
}
