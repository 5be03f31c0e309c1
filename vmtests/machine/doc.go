// Package machine boots throw-away Debian machines for tests: real systemd as PID 1, joined by a bridge that can be cut and made lossy.
//
// Two kinds satisfy Machine: Container (systemd-nspawn over an overlay of a cached tree, ready in seconds) and VM (qemu with Debian's own kernel, where
// what a container cannot show is shown: AppArmor, limits, clock, power). Whatever happens to the test, also when it is killed, no process, mount,
// network namespace or file of a machine outlives it: see guard.
package machine
