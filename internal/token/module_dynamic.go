//go:build !builtin_softhsm

package token

// DefaultModule is the PKCS#11 module of a Config that names none: SoftHSM2, where Debian's libsofthsm2 puts it.
const DefaultModule = "/usr/lib/softhsm/libsofthsm2.so"

// moduleHint says what to do when a module cannot be loaded.
const moduleHint = "install Debian's libsofthsm2, or check the path of the vendor's module"
