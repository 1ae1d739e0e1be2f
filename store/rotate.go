package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"google.golang.org/protobuf/proto"

	"defender-integration/internal/announce"
)

// A sealing key is changed in three steps, each of which leaves a key file that opens everything, wherever the process is killed:
// AddKey, UseNewestKey, and, after Reseal, DropOtherKeys. Where several processes have copies of the key file, each of the first two
// must have come to all of them before the next.

// resealAttempts bounds how often a record is re-sealed that others change meanwhile.
const resealAttempts = 10

// AddKey adds a new key to the key file at path, which opens and does not seal yet. Where there are several already, of a change that was
// begun, it adds none and returns false.
func AddKey(path string) (added bool, err error) {
	handle, err := readKey(path)
	if err != nil {
		return false, fmt.Errorf("the sealing key: %w", err)
	}
	if handle.Len() > 1 {
		return false, nil
	}
	manager := keyset.NewManagerFromHandle(handle)
	if _, err := manager.Add(aead.AES256GCMKeyTemplate()); err != nil {
		return false, fmt.Errorf("make a sealing key: %w", err)
	}
	return true, changeKeys(path, manager)
}

// UseNewestKey has the key that was added last seal. Where it does already, it changes nothing and returns false.
func UseNewestKey(path string) (changed bool, err error) {
	handle, err := readKey(path)
	if err != nil {
		return false, fmt.Errorf("the sealing key: %w", err)
	}
	newest, err := handle.Entry(handle.Len() - 1)
	if err != nil {
		return false, fmt.Errorf("the sealing key: %w", err)
	}
	if newest.IsPrimary() {
		return false, nil
	}
	manager := keyset.NewManagerFromHandle(handle)
	if err := manager.SetPrimary(newest.KeyID()); err != nil {
		return false, fmt.Errorf("the sealing key: %w", err)
	}
	return true, changeKeys(path, manager)
}

// NewestSeals says whether the key that was added last seals.
func NewestSeals(path string) (bool, error) {
	handle, err := readKey(path)
	if err != nil {
		return false, fmt.Errorf("the sealing key: %w", err)
	}
	newest, err := handle.Entry(handle.Len() - 1)
	if err != nil {
		return false, fmt.Errorf("the sealing key: %w", err)
	}
	return newest.IsPrimary(), nil
}

// DropOtherKeys takes every key out of the key file but the one that seals, and returns how many. What was sealed with them, here or by
// a process that had no other, can never be opened again.
func DropOtherKeys(path string) (dropped int, err error) {
	handle, err := readKey(path)
	if err != nil {
		return 0, fmt.Errorf("the sealing key: %w", err)
	}
	manager := keyset.NewManagerFromHandle(handle)
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil {
			return 0, fmt.Errorf("the sealing key: %w", err)
		}
		if entry.IsPrimary() {
			continue
		}
		if err := manager.Delete(entry.KeyID()); err != nil {
			return 0, fmt.Errorf("the sealing key: %w", err)
		}
		dropped++
	}
	if dropped == 0 {
		return 0, nil
	}
	return dropped, changeKeys(path, manager)
}

// changeKeys puts the manager's keys in the place of those at path.
func changeKeys(path string, manager *keyset.Manager) error {
	handle, err := manager.Handle()
	if err != nil {
		return fmt.Errorf("the sealing key: %w", err)
	}
	if err := replaceKeys(path, handle); err != nil {
		return fmt.Errorf("write the sealing key: %w", err)
	}
	return nil
}

// Reseal seals the secrets of every record, and the mark of the key, with the key that seals, where another did, and returns how many it
// were. Settings stay what they are; that a record is written gives it a new revision.
func (s *Sealer) Reseal(ctx context.Context, in sealed) (resealed int, err error) {
	err = eachRecord(ctx, in, func(found Versioned) error {
		changed, err := s.resealRecord(ctx, in, found)
		if err != nil {
			return fmt.Errorf("re-seal the secrets of integration %q: %w", found.Record.GetIntegration().GetIntegrationId(), err)
		}
		if changed {
			resealed++
		}
		return nil
	})
	if err != nil {
		return resealed, err
	}
	for range resealAttempts {
		mark, revision, err := in.SealMark(ctx)
		if err != nil || revision == 0 || s.sealedLast(mark) {
			return resealed, err
		}
		announce.Point(announce.Reseal)
		again, err := s.reseal(mark, markKey)
		if err != nil {
			return resealed, err
		}
		if err := in.PutSealMark(ctx, again, revision); !errors.Is(err, ErrConflict) {
			return resealed, err
		}
	}
	return resealed, ErrConflict
}

// resealRecord re-seals one record, and says whether it had to. One that is deleted meanwhile needs it no more.
func (s *Sealer) resealRecord(ctx context.Context, in Registry, found Versioned) (bool, error) {
	for range resealAttempts {
		if s.sealedLast(found.Record.GetSealedSecrets()) {
			return false, nil
		}
		changed := proto.CloneOf(found.Record)
		var err error
		if changed.SealedSecrets, err = s.reseal(found.Record.GetSealedSecrets(), found.Record.GetUid()); err != nil {
			return false, err
		}
		announce.Point(announce.Reseal)
		_, err = in.UpdateRecord(ctx, changed, found.Revision)
		switch {
		case errors.Is(err, ErrNotFound):
			return false, nil
		case !errors.Is(err, ErrConflict):
			return err == nil, err
		}
		found.Record, found.Revision, err = in.Record(ctx, found.Record.GetIntegration().GetIntegrationId())
		if errors.Is(err, ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return false, ErrConflict
}

// reseal opens what any key sealed, and seals it with the one that does now.
func (s *Sealer) reseal(sealed []byte, uid string) ([]byte, error) {
	secrets, err := s.Open(sealed, uid)
	if err != nil {
		return nil, err
	}
	return s.Seal(secrets, uid)
}

// sealedLast says whether the key that seals now sealed this. Tink begins what it seals with a byte of its own and the key's id
// (https://developers.google.com/tink/wire-format).
func (s *Sealer) sealedLast(sealed []byte) bool {
	const version, prefix = 0x01, 5
	return len(sealed) > prefix && sealed[0] == version && binary.BigEndian.Uint32(sealed[1:prefix]) == s.primary
}
