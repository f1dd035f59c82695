package control

import (
	"encoding/json"
	"testing"
)

func TestFeaturesOfAVethHaveTheFieldsOfTheContract(t *testing.T) {
	a, _ := newPair(t, VethOptions{Queues: 2})
	f, err := Features(a)
	must(t, err)
	if f.Driver != "veth" || f.MTU != 1500 || f.Queues.RX != 2 || f.Queues.TX != 2 || f.Queues.Max != 2 {
		t.Errorf("%+v", f)
	}
	if !f.XDP.Native || !f.XDP.Generic || !f.XDP.Redirect || !f.XDP.MultiBuffer || f.XDP.ZeroCopy {
		t.Errorf("xdp: %+v", f.XDP)
	}
	if len(f.RXMetadata) == 0 {
		t.Error("veth gives RX metadata, none was read")
	}
	raw, err := json.Marshal(f)
	must(t, err)
	var doc map[string]any
	must(t, json.Unmarshal(raw, &doc))
	for object, keys := range map[string][]string{
		"":       {"interface", "driver", "mtu", "queues", "xdp", "rx_metadata", "tx_metadata"},
		"queues": {"rx", "tx", "combined", "max"},
		"xdp":    {"native", "generic", "redirect", "zero_copy", "multi_buffer", "zc_max_segs"},
	} {
		in := doc
		if object != "" {
			in = doc[object].(map[string]any)
		}
		for _, k := range keys {
			if in[k] == nil {
				t.Errorf("%s.%s is missing or null in %s", object, k, raw)
			}
		}
	}
}

func TestFeaturesOfASimpleDeviceNoteWhatIsUnknown(t *testing.T) {
	lo, err := LinkByName(newNamespace(t), "lo")
	must(t, err)
	f, err := Features(lo)
	must(t, err)
	if f.XDP.Native || !f.XDP.Generic || len(f.Notes) == 0 || f.Queues.RX != 1 {
		t.Errorf("%+v", f)
	}
}

func TestUnknownFeatureBitsKeepTheirNumber(t *testing.T) {
	got := bitNames(1<<1|1<<40, rxMetadataNames)
	if len(got) != 2 || got[0] != "hash" || got[1] != "bit_40" {
		t.Errorf("got %v", got)
	}
}
