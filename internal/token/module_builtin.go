//go:build builtin_softhsm

package token

// SoftHSM2 and what it needs are linked in; packaging/softhsm2 builds them and explains the wrapped symbols.

// #cgo LDFLAGS: -Wl,--wrap=dlopen -Wl,--wrap=dlsym -Wl,--wrap=dlclose -Wl,--wrap=dlerror
// #cgo LDFLAGS: -Wl,--wrap=getpwuid_r -Wl,--wrap=getaddrinfo -Wl,--wrap=gethostbyname
// #cgo LDFLAGS: -L${SRCDIR}/../../build/softhsm2/lib -l:libsofthsm2.a -l:libcrypto.a -l:libstdc++.a -lm
import "C"

// DefaultModule is the PKCS#11 module of a Config that names none: the linked-in SoftHSM2, for which the linked-in loader answers.
const DefaultModule = "builtin:softhsm2"

// moduleHint says what to do when a module cannot be loaded.
const moduleHint = "this build has SoftHSM2 inside and loads no other module: the build for a vendor's HSM is made with make build-hsm"
