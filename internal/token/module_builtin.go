//go:build builtin_softhsm

package token

// SoftHSM2 and what it needs are linked in; packaging/softhsm2 builds them and explains the wrapped symbols.

// #cgo LDFLAGS: -Wl,--wrap=dlopen -Wl,--wrap=dlsym -Wl,--wrap=dlclose -Wl,--wrap=dlerror
// #cgo LDFLAGS: -Wl,--wrap=getpwuid_r -Wl,--wrap=getaddrinfo -Wl,--wrap=gethostbyname
// #cgo LDFLAGS: -L${SRCDIR}/../../build/softhsm2/lib -l:libsofthsm2.a -l:libcrypto.a -l:libstdc++.a -lm
import "C"

// builtinModule is the path for which the linked-in loader answers with the linked-in SoftHSM2.
const builtinModule = "builtin:softhsm2"

func defaultModule() (string, error) { return builtinModule, nil }
