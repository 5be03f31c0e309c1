// Package pdf reads PDF files strictly and extends them by incremental updates, for electronic signatures (ISO 32000-2, EN 319 142-1).
//
// The reader never repairs and never guesses: a document whose meaning depends on who reads it must not be signed, so where known
// readers disagree the file is refused. It does no I/O, starts nothing, reads no clock. Errors are fault.Error values of the kinds
// Invalid (the file is broken, the text says where), Unsupported (encryption and the like), TooLarge (a limit) and, when writing,
// Forbidden (the document does not permit it), Conflict and NotFound (signature fields).
//
// # What was decided
//
//   - Bytes before "%PDF-" (at most 1024): read, offsets counting from "%PDF-" (ISO 32000-2 §7.5.2), but refused when they could also count
//     from the start of the file; never signed, because readers disagree on what ByteRange counts from.
//   - The last "startxref" stands within the last 1024 bytes, where every reader looks; bytes after its "%%EOF" stay, and the next update
//     follows them. Around it and in cross-reference tables, spaces and line ends are the only white space.
//   - /Size is at most 8,388,607, the fields of cross-reference streams are at most 2, 8 and 4 bytes wide: some readers hold no more.
//   - Cross-reference entries must hold exactly: "N G obj" at the very offset, N below /Size, no number twice with different entries in a
//     section, no object reaching into the next. An entry in use at offset 0 is a free one (some writers delete objects so).
//   - Hybrid files: the table's entries in use, then XRefStm's, then the table's free ones, then Prev. Two different entries in use for one
//     number are refused. An update of a hybrid file is a plain table.
//   - Duplicate keys in a dictionary are refused. So is a reference with the wrong generation number, and an object stream that was
//     replaced without restating the objects in it.
//   - A page tree whose Count is not the number of its pages, or that holds a page twice, has no pages to sign.
//   - A revision ends where a section is followed by its own startxref and %%EOF (in a linearized file, by the first-page section's). A file
//     that ends otherwise can be read, not signed.
//   - Encrypted files are refused, and XFA forms are never signed (viewers show the XFA, not the pages).
//
// # Cost
//
// Open reads the cross-reference sections and checks that each entry in use points to its object: time and memory are linear in
// the file's size whatever the file says about itself. Objects are parsed when asked for. Check parses everything once; Prepare
// calls it. Decoded streams are charged to a budget proportional to the file's size.
//
// A File and what derives from it (At, Prepare, Embed, AppendDSS) share memory and are for one goroutine at a time.
package pdf
