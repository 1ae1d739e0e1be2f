package collector_test

import (
	"testing"
	"testing/synctest"
	"time"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
)

const deviceTwo = "2222222222222222222222222222222222222222"

// A device source that is asked for some devices alone tells nothing of the others: who was not asked for is neither known nor
// gone, and is asked for soon, together with all others that came meanwhile.
func TestDevicesThatAreAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		defer b.stop()
		b.source.SetWantedOnly(true)
		one := collectortest.Device(deviceOne, "one.contoso.test", time.Now())
		two := collectortest.Device(deviceTwo, "two.contoso.test", time.Now())
		b.source.SetDevices(one, two)
		c := b.collector()
		join := func(name string) *collector.Member {
			t.Helper()
			m, _, err := c.Join(t.Context(), [][]string{{name}})
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		knows := func(name string) (asked bool, found int) {
			s, _ := c.Snapshot()
			return s.Devices.Asked([]string{name}), len(s.Devices.Fitting([]string{name}))
		}
		first := join("one.contoso.test")
		time.Sleep(time.Second)
		if asked, found := knows("one.contoso.test"); !asked || found != 1 {
			t.Errorf("the first Actor: asked %t, %d devices", asked, found)
		}
		if asked, found := knows("two.contoso.test"); asked || found != 0 {
			t.Errorf("an Actor of no stream: asked %t, %d devices", asked, found)
		}
		// Many come at once and share one look-up, well before the next is due.
		lookups := b.source.Lookups()
		for range 50 {
			defer join("two.contoso.test").Leave()
			defer join("three.contoso.test").Leave()
		}
		time.Sleep(10 * time.Second)
		if made := b.source.Lookups() - lookups; made != 1 {
			t.Errorf("%d look-ups for those who came together, want 1", made)
		}
		if asked, found := knows("two.contoso.test"); !asked || found != 1 {
			t.Errorf("the second Actor: asked %t, %d devices", asked, found)
		}
		if asked, found := knows("three.contoso.test"); !asked || found != 0 {
			t.Errorf("an Actor without a device: asked %t, %d devices", asked, found)
		}
		// Nobody asks for the first device any more: it is not gone for that.
		first.Leave()
		time.Sleep(time.Hour)
		b.source.SetDevices(one)
		time.Sleep(time.Hour)
		var gone []string
		for _, p := range b.entries() {
			if f := p.Entry.GetDeviceFact(); f.GetGone() {
				gone = append(gone, f.GetDevice().GetMdeDeviceId())
			}
		}
		if len(gone) != 1 || gone[0] != deviceTwo {
			t.Errorf("gone are %q, want the second device alone", gone)
		}
	})
}

// A verdict does not rest on a look-up that did not ask for the Actor, however fresh that is.
func TestClosingAsksForWhoJustCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		defer b.stop()
		b.source.SetWantedOnly(true)
		b.source.SetDevices(collectortest.Device(deviceTwo, "two.contoso.test", time.Now()))
		c := b.collector()
		first, _, err := c.Join(t.Context(), [][]string{{"one.contoso.test"}})
		if err != nil {
			t.Fatal(err)
		}
		defer first.Leave()
		time.Sleep(time.Second)
		second, _, err := c.Join(t.Context(), [][]string{{"two.contoso.test"}})
		if err != nil {
			t.Fatal(err)
		}
		defer second.Leave()
		second.SetClosing(collector.Closing{Since: time.Now().Add(-time.Hour), Due: time.Now().Add(-time.Minute)})
		time.Sleep(3 * time.Second)
		fact, pair := 0, 0
		for i, p := range b.entries() {
			if p.Entry.GetDeviceFact().GetDevice().GetMdeDeviceId() == deviceTwo {
				fact = i + 1
			}
			if p.Entry.GetPair() != nil {
				pair = i + 1
			}
		}
		if fact == 0 || pair < fact {
			t.Errorf("the fact is entry %d, the pair entry %d: want the fact before it", fact, pair)
		}
	})
}
