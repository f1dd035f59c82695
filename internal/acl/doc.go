// Package acl is ordered packet-filter rules: their text, and a compiled form that
// finds the first rule that matches a packet in a time that hardly depends on how
// many there are. The acl stage is made of it.
//
//	rules, err := acl.Parse("rules.txt", text, acl.Options{})
//	set := acl.Compile(rules, acl.NoDirection)
//	n := set.Match(batch, 0, &scratch) // decides on up to Chunk packets
//
// # What is not known
//
// Some packets do not show what a rule asks for: only the first fragment of a
// packet has ports. One principle decides there: a permit rule matches what
// certainly fits it, a deny rule what may fit it. So a packet that a rule would
// deny if everything were known is never permitted because it is not.
//
// # How it is compiled
//
// Rules become boxes: a range of values for each field (box.go). Each kind of
// packet that has its own fields (IPv4, IPv6, their later fragments, everything
// else) has a table of those boxes that can match it (table.go), and a table is a
// few trees (tree.go). A node of a tree takes some bits of one field as an index
// to its children; a leaf has the few boxes left to compare with. Boxes that leave
// the bits open would be needed below every child: where they are many, they are
// put off to the next tree. The trees are flat arrays and are walked for a chunk of packets
// at a time, so that the CPU overlaps their cache misses.
//
// # Bounds
//
// A table's nodes and entries are limited to a multiple of its boxes (see
// Compile). Rules that overlap so much that this does not do make leaves with more
// boxes: matching gets slower, never wrong.
package acl
