package xsk

// Stats are counters since the socket was opened.
type Stats struct {
	Received    uint64 // descriptors taken from the RX ring
	Transmitted uint64 // descriptors put into the TX ring
	Completed   uint64 // descriptors taken from the completion ring
	Filled      uint64 // frames put into the fill ring
	RxBytes     uint64 // of the packets received
	TxBytes     uint64 // of the packets transmitted

	Kicks      uint64 // system calls that woke the transmit side
	Wakes      uint64 // system calls that woke the receive side
	SendAgain  uint64 // of the kicks, those that ended with EAGAIN: budget, send buffer, full completion ring
	SendBusy   uint64 // of the kicks, those that ended with EBUSY: in copy mode the driver dropped one packet, which counts as transmitted here
	SendNoBufs uint64 // of the kicks, those that ended with ENOBUFS or ENOMEM
	SendErrors uint64 // of the kicks, those that ended with any other error
}

// KernelStats are the kernel's counters since the socket was opened (struct
// xdp_statistics, linux/if_xdp.h).
type KernelStats struct {
	RxDropped       uint64 `json:"rx_dropped"`         // dropped for other reasons: too long for a frame
	RxInvalidDescs  uint64 `json:"rx_invalid_descs"`   // addresses outside the memory in the fill ring
	TxInvalidDescs  uint64 `json:"tx_invalid_descs"`   // descriptors in the TX ring the kernel refused; they never complete
	RxRingFull      uint64 `json:"rx_ring_full"`       // dropped because the program was too slow
	RxFillRingEmpty uint64 `json:"rx_fill_ring_empty"` // times the fill ring had nothing to receive into
	TxRingEmpty     uint64 `json:"tx_ring_empty"`      // times the TX ring had nothing to transmit
}

// Places says where the frames are that this socket has been given.
type Places struct {
	Fill       int // in the fill ring, or taken from it and not yet received into
	Rx         int // in the RX ring
	Tx         int // in the TX ring or being transmitted
	Completion int // in the completion ring
}
