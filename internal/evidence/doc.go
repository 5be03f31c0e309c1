// Package evidence says who signed what, when and on whose word, in a form that outlives the appliance.
//
// Three things, each made from the one before:
//
//   - The core: canonical JSON, fixed at the moment of signing. Its SHA-256 is in the prescription_signed line of the log, so that nothing
//     of it can be changed afterwards.
//   - The Evidence Summary: the core with what is true at the moment of asking (status, positions in the log, a checkpoint). Without the
//     members that Summary adds it is the core again, byte for byte.
//   - The evidence pack: one zip file with the signed PDF, the core, the summary, certificates, CRLs, lines of the log with their proofs, and
//     a README for a court. VerifyPack checks all of it offline.
//
// Each fact is tagged by how it is known: verified by the signer (a signature, a token's claim, its own clock and log), observed by the
// portal (an address, a time of receipt), or asserted by the caller (the browser's address, the consent).
//
// The package is pure but for the reader of a pack: no clock, no randomness, no key. It does not judge the PDF's signatures itself: see
// VerifyOptions.JudgePDF.
package evidence
