// Package ca issues, revokes and renews certificates, and says what state they are in.
//
// Three issuing CAs stand under a root, so that one stolen key cannot forge both a signature and its time. The root's key lives in a token
// folder of its own, which RootCeremony alone opens, in its own process; what passes between that and the online side is JSON:
//
//	online: Begin    keys of the three CAs in the token   -> CeremonyRequest (PKCS#10, profile settings)
//	root:   RootCeremony                                  -> CeremonyAnswer  (root, CA certificates, the root's CRL, signed ahead)
//	online: Complete checks and records the answer, makes the TSA's, the responders' and the checkpoint keys and the first CRLs
//
// The law of every act: its line in the log comes first, durable; only then does memory change and does anything leave. A key is named in
// the log before it is made (key_intended) and again when it exists (key_created), so a crash in between leaves a key that the log knows
// to be unfinished: Open says so, and destroys it a week later. A certificate leaves only after certificate_issued: a crash before that line leaves bytes that
// nobody has, never an unlogged certificate.
//
// State is folded from the log into the index (Fold) and read from there into memory by Open. Answering OCSP and finding a signer touch
// neither the disk nor the token's search.
package ca
