package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// recordVersion changes with the layout or the meaning of any map.
const recordVersion = 2

// SetPolicy replaces the policy while packets flow: each packet is decided by all
// of the old policy or all of the new. When it returns, no packet is decided by
// the old one any more. On an error before that point the old policy stays in
// force; it is a *FilterError where the kernel refuses the filter. The counters of rules start at 0, all others go on. It takes
// milliseconds: the kernel waits until every CPU has left the program.
func (s *Steering) SetPolicy(policy Policy) error {
	if err := policy.Validate(); err != nil {
		return fmt.Errorf("set policy: %w", err)
	}
	policy = policy.clone()

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("set policy: %w", ErrClosed)
	}
	generation := s.generation + 1
	next := compile(policy, generation)
	if err := s.activate(policy, next); err != nil {
		var refused *FilterError // says itself what is missing
		if !errors.As(err, &refused) {
			err = permission(err)
		}
		return errors.Join(fmt.Errorf("set policy: %w", err), s.deletePrefixes(next), s.putFilter(generation, nil))
	}
	// Updating a map of maps, the kernel waits for an RCU grace period before it
	// returns (maybe_wait_bpf_programs, since Linux 4.20). No packet is left that
	// began under the old bank, so what belonged to it may go.
	old := s.current
	s.policy, s.generation, s.current = policy, generation, next
	if err := errors.Join(s.deletePrefixes(old), s.putFilter(old.bank.Generation, nil)); err != nil {
		return fmt.Errorf("set policy: it is in force, but remains of the old one stay: %w", permission(err))
	}
	return nil
}

// activate writes the tables beside those in force and then swaps. The record
// comes before the first prefix, so that whoever loads the pins after a crash
// knows what to delete.
func (s *Steering) activate(policy Policy, next *tables) error {
	if policy.Filter != "" {
		program, err := s.loadFilter(policy.Filter)
		if err != nil {
			return err
		}
		defer program.Close() // the map holds it
		if err := s.putFilter(next.bank.Generation, program); err != nil {
			return err
		}
	}
	bank, err := ebpf.NewMap(s.bank)
	if err != nil {
		return fmt.Errorf("create bank: %w", err)
	}
	defer bank.Close()
	if err := bank.Put(uint32(0), &next.bank); err != nil {
		return fmt.Errorf("fill bank: %w", err)
	}
	if err := s.record(bank, policy, next.bank.Generation); err != nil {
		return err
	}
	if err := s.clearHits(next.bank.Generation); err != nil {
		return err
	}
	for key, left := range next.prefixes4 {
		if err := s.maps.Prefixes4.Put(key, left); err != nil {
			return fmt.Errorf("add IPv4 prefix: %w", err)
		}
	}
	for key, left := range next.prefixes6 {
		if err := s.maps.Prefixes6.Put(key, left); err != nil {
			return fmt.Errorf("add IPv6 prefix: %w", err)
		}
	}
	if err := s.maps.Active.Put(uint32(0), bank); err != nil {
		return fmt.Errorf("swap banks: %w", err)
	}
	return nil
}

// deletePrefixes deletes what the tables have in the tries, as far as it is there.
func (s *Steering) deletePrefixes(of *tables) error {
	var failed error
	for key := range of.prefixes4 {
		if err := s.maps.Prefixes4.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			failed = fmt.Errorf("delete IPv4 prefix: %w", err)
		}
	}
	for key := range of.prefixes6 {
		if err := s.maps.Prefixes6.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			failed = fmt.Errorf("delete IPv6 prefix: %w", err)
		}
	}
	return failed
}

// record writes the policy down for LoadPinned, in the slot of its generation:
// the other slot has the policy before it.
func (s *Steering) record(bank *ebpf.Map, policy Policy, generation uint32) error {
	info, err := bank.Info()
	if err != nil {
		return fmt.Errorf("record policy: %w", err)
	}
	id, ok := info.ID()
	if !ok {
		return fmt.Errorf("record policy: the kernel tells no map ids: %w", ErrKernelTooOld)
	}
	record := steerRecord{Version: recordVersion, Generation: generation, BankId: uint32(id)}
	text := policy.String()
	if len(text) > len(record.Text) {
		return fmt.Errorf("record policy: its text has %d bytes; at most %d fit", len(text), len(record.Text))
	}
	record.Length = uint32(copy(record.Text[:], text))
	if err := s.maps.Records.Put(generation&1, &record); err != nil {
		return fmt.Errorf("record policy: %w", err)
	}
	return nil
}

// recall finds the policy in force from the records, and deletes what an update
// that was cut short left of the other.
func (s *Steering) recall() error {
	var active uint32
	if err := s.maps.Active.Lookup(uint32(0), &active); err != nil {
		return fmt.Errorf("look up active bank: %w", err)
	}
	found := false
	var stale *tables
	for slot := range uint32(2) {
		var record steerRecord
		if err := s.maps.Records.Lookup(slot, &record); err != nil {
			return fmt.Errorf("look up policy record: %w", err)
		}
		if record.Version == 0 {
			continue // never written
		}
		if record.Version != recordVersion || record.Length > uint32(len(record.Text)) {
			return fmt.Errorf("policy record has version %d, this is %d: %w", record.Version, recordVersion, ErrIncompatible)
		}
		policy, err := parsePolicy(string(record.Text[:record.Length]))
		if err != nil {
			return fmt.Errorf("read policy record: %w", err)
		}
		compiled := compile(policy, record.Generation)
		if record.BankId != active {
			stale = compiled
			continue
		}
		found = true
		s.policy, s.generation, s.current = policy, record.Generation, compiled
	}
	if !found {
		return fmt.Errorf("no policy record is of the active bank %d: %w", active, ErrIncompatible)
	}
	if err := s.putFilter(s.generation+1, nil); err != nil {
		return err
	}
	if stale != nil {
		return s.deletePrefixes(stale)
	}
	return nil
}
