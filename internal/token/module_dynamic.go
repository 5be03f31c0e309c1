//go:build !builtin_softhsm

package token

import (
	"os"

	"github.com/veripath/aes-appliance/internal/fault"
)

// debianModules are the places where Debian's libsofthsm2 puts the module.
var debianModules = []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so"}

// defaultModule returns the SoftHSM2 module that Debian installed.
func defaultModule() (string, error) {
	for _, path := range debianModules {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fault.New(fault.NotFound, "SoftHSM2 is not installed").
		WithHint("install Debian's libsofthsm2, or use the static build, which has it inside")
}
