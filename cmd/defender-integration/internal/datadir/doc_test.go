// Package datadir_test holds every version of the service to what earlier ones stored: for each released format, testdata has a small
// data directory that the code of that time wrote, with what must be read out of it. The tests open a copy with the real engine and the
// real streams. The folders are for ever: a format that changes gets a folder beside them, and what is in one is never written anew.
//
//	make fixture
//
// writes the folder of the newest format, and only until that format is released.
package datadir_test

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

// write makes TestWrite write the folder of the newest format.
var write = flag.Bool("write", false, "write the data directory of the newest format anew")

// newest is the folder of the format that this version writes.
const newest = "testdata/v1"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
