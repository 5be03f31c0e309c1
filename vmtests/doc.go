// Package vmtests tries the Debian package on real machines: go test -tags vm ./vmtests/. README.md says how and what it takes.
package vmtests
