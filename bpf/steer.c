//go:build ignore

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

/*
 * xdpipe_steer decides which packets go to user space.
 *
 * A policy is up to 64 ordered rules; the first that matches decides. Rules
 * are not walked. Every field that rules can name (VLAN, ethertype,
 * protocol, addresses, ports) is a table from the packet's value to a 64-bit
 * mask: bit i is set when that value does not rule out rule i. The masks are
 * ANDed and the lowest bit left is the rule, so 64 rules cost what one costs.
 * A field none of the remaining rules names is not even read.
 *
 * A policy's tables live in one map value, `struct bank`, reached through the
 * single slot of `active`. User space fills a fresh bank and then swaps the
 * slot: a packet sees all of one policy or all of the other. Prefixes cannot
 * live in a bank, so their tries are shared and the bank's generation is the
 * first 32 bits of their keys.
 *
 * What no rule matches a policy may decide by a filter expression. That is
 * code, not a table: user space loads xdpipe_filter below with the expression
 * for its body and puts it into `filters`, from where it is tail-called. The
 * array has two slots, one for even generations and one for odd. The new
 * filter is loaded into the slot that the policy in force does not use, before
 * the swap of banks; a packet reads its bank once, and of the filters it can
 * only reach the one of that bank's generation. So the swap of banks remains
 * the one moment that decides, for tables and filter alike, and it is a map
 * update like any other: it works on pinned maps, from another process, and the
 * attached program stays the same. (A program array cannot itself be in a map
 * of maps, and replacing the attached program would need the link that holds
 * it, and swap the program at another moment than the tables.)
 */

#include "bpf.h"

#define MAX_RULES 64
#define MAX_PREFIXES 1024
#define MAX_VLAN_TAGS 2
#define MAX_EXTENSIONS 8

#define ETH_P_IP 0x0800
#define ETH_P_8021Q 0x8100
#define ETH_P_IPV6 0x86dd
#define ETH_P_8021AD 0x88a8

#define IPPROTO_HOPOPTS 0
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_ROUTING 43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_AH 51
#define IPPROTO_DSTOPTS 60
#define IPPROTO_SCTP 132

#define IP_OFFSET_MASK 0x1fff
#define IP6_OFFSET_MASK 0xfff8

#define BANK_REDIRECT_UNMATCHED 1
#define BANK_FILTER_UNMATCHED 2

#define FILTER_SLOTS 2

/* The tables of one policy. A class is an index into the mask array beside
 * it: 64 rules split a field's values into at most 129 classes, so a byte
 * per value does and the tables stay small enough for a CPU's cache. */
struct bank {
	__u64 rules; /* bit i: rule i exists */
	__u64 redirect; /* bit i: rule i redirects */
	__u64 drop; /* bit i: rule i drops; in neither: it passes */

	/* bit i: rule i names the field */
	__u64 uses_vlan;
	__u64 uses_ethertype;
	__u64 uses_protocol;
	__u64 uses_src;
	__u64 uses_dst;
	__u64 uses_ports;

	__u32 generation;
	__u32 flags;

	__u64 protocol_mask[256]; /* by protocol, no classes needed */
	__u64 vlan_mask[256];
	__u64 ethertype_mask[256];
	__u64 src_port_mask[256];
	__u64 dst_port_mask[256];
	__u64 port_mask[256]; /* rules whose port may be either one */

	__u8 vlan_class[4096];
	__u8 ethertype_class[65536];
	__u8 src_port_class[65536];
	__u8 dst_port_class[65536];
	__u8 port_class[65536];
};

/* Counters. The verdicts come first and exclude each other: they add up to
 * every packet seen. The others are counted beside the verdict. */
enum reason {
	REASON_REDIRECT,
	REASON_PASS_NO_MATCH,
	REASON_PASS_RULE,
	REASON_PASS_NO_SOCKET,
	REASON_DROP_RULE,
	REASON_PASS_NO_FILTER,
	REASON_FILTER,
	REASON_TRUNCATED,
	REASON_MALFORMED,
	REASON_TOO_DEEP,
	REASON_COUNT,
};

struct counter {
	__u64 packets;
	__u64 bytes;
};

enum direction {
	DIRECTION_SRC,
	DIRECTION_DST,
};

struct prefix4 {
	__u32 bits; /* 64 + the prefix's own */
	__u32 generation;
	enum direction direction;
	__u8 address[4];
};

struct prefix6 {
	__u32 bits;
	__u32 generation;
	enum direction direction;
	__u8 address[16];
};

/* What user space wrote of a policy, for the process that finds the maps
 * pinned. The program never reads it. */
struct record {
	__u32 version;
	__u32 generation;
	__u32 bank_id; /* the bank's map id: tells which record is in force */
	__u32 length;
	__u8 text[32752];
};

/* In force until user space sets a policy: no rules, everything passes. */
struct bank_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bank);
} empty SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct bank_map);
} active SEC(".maps") = {
	.values = { &empty },
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_PREFIXES);
	__type(key, struct prefix4);
	__type(value, __u64);
} prefixes4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_PREFIXES);
	__type(key, struct prefix6);
	__type(value, __u64);
} prefixes6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASON_COUNT);
	__type(key, __u32);
	__type(value, struct counter);
} counters SEC(".maps");

/* Packets by rule: one half for even generations, one for odd. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2 * MAX_RULES);
	__type(key, __u32);
	__type(value, __u64);
} hits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct record);
} records SEC(".maps");

/* The filter of each policy, by the parity of its generation. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, FILTER_SLOTS);
	__type(key, __u32);
	__type(value, __u32);
} filters SEC(".maps");

/* User space replaces max_entries by the device's largest queue count. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

/* count is global, not static, so that the verifier checks it once instead of
 * at every call. */
__noinline int count(struct xdp_md *ctx, enum reason reason)
{
	__u32 key = reason;
	struct counter *c = bpf_map_lookup_elem(&counters, &key);

	if (c) {
		c->packets++;
		c->bytes += bpf_xdp_get_buff_len(ctx);
	}
	return 0;
}

/* pull copies len bytes at offset into to. Headers are nearly always in the
 * linear part; where a driver left less there, the helper reads the
 * fragments. Returns 0, or not 0 when the packet ends earlier. */
static __always_inline long pull(struct xdp_md *ctx, __u32 offset, void *to,
				 __u32 len)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	/* The deepest header is at 14 + 8 + 40 + 8 * 2048; the bound tells the
	 * verifier. */
	if (offset > 0x7fff)
		return -1;
	if (data + offset + len <= end) {
		/* Every header starts at an even offset. */
		__builtin_memcpy(to, __builtin_assume_aligned(data + offset, 2), len);
		return 0;
	}
	return bpf_xdp_load_bytes(ctx, offset, to, len);
}

/* The transport header's place. */
struct upper {
	__u32 offset;
	__u8 protocol;
	__u8 known; /* protocol and offset were read */
	__u8 fragment; /* a fragment that is not the first: no ports here */
};

static __always_inline int is_extension(__u8 protocol)
{
	switch (protocol) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_FRAGMENT:
	case IPPROTO_AH:
	case IPPROTO_DSTOPTS:
		return 1;
	}
	return 0;
}

/* What walk returns, in one word: a global function has no other way. */
#define WALKED_PROTOCOL 0xff
#define WALKED_FRAGMENT 0x100
#define WALKED_OFFSET_SHIFT 16

/* walk follows IPv6 extension headers, the first of which is at offset, to
 * the transport header. Returns less than 0 when there is none to be found. It
 * is global for the verifier's sake, as count is. */
__noinline int walk(struct xdp_md *ctx, __u32 offset, __u32 first)
{
	__u8 head[4] __attribute__((aligned(4)));
	__u8 protocol = first;

#pragma clang loop unroll(disable)
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		__u8 type = protocol;

		if (!is_extension(type))
			break;
		if (pull(ctx, offset, head, sizeof(head))) {
			count(ctx, REASON_TRUNCATED);
			return -1;
		}
		protocol = head[0];
		if (type == IPPROTO_FRAGMENT) {
			offset += 8;
			/* What follows may be the middle of something. */
			if ((head[2] << 8 | head[3]) & IP6_OFFSET_MASK)
				return offset << WALKED_OFFSET_SHIFT |
				       WALKED_FRAGMENT | protocol;
		} else if (type == IPPROTO_AH) {
			offset += ((__u32)head[1] + 2) << 2;
		} else {
			offset += ((__u32)head[1] + 1) << 3;
		}
	}
	if (is_extension(protocol)) {
		count(ctx, REASON_TOO_DEEP);
		return -1;
	}
	return offset << WALKED_OFFSET_SHIFT | protocol;
}

static __always_inline __u64 prefixed4(const struct bank *bank,
				       enum direction direction,
				       const __u8 *address, __u64 others)
{
	struct prefix4 key = { 96, bank->generation, direction, {} };
	__u64 *mask;

	__builtin_memcpy(key.address, address, sizeof(key.address));
	mask = bpf_map_lookup_elem(&prefixes4, &key);
	return mask ? *mask : others;
}

static __always_inline __u64 prefixed6(const struct bank *bank,
				       enum direction direction,
				       const __u8 *address, __u64 others)
{
	struct prefix6 key = { 192, bank->generation, direction, {} };
	__u64 *mask;

	__builtin_memcpy(key.address, address, sizeof(key.address));
	mask = bpf_map_lookup_elem(&prefixes6, &key);
	return mask ? *mask : others;
}

/* ipv4 narrows left by addresses and says where the transport header is.
 * Returns 0 when the header could not be read. */
static __always_inline int ipv4(struct xdp_md *ctx, const struct bank *bank,
				__u32 offset, __u64 *left, struct upper *at)
{
	__u8 h[20] __attribute__((aligned(8)));

	if (pull(ctx, offset, h, sizeof(h))) {
		count(ctx, REASON_TRUNCATED);
		return 0;
	}
	if (h[0] >> 4 != 4 || (h[0] & 15) < 5) {
		count(ctx, REASON_MALFORMED);
		return 0;
	}
	if (*left & bank->uses_src)
		*left &= prefixed4(bank, DIRECTION_SRC, h + 12, ~bank->uses_src);
	if (*left & bank->uses_dst)
		*left &= prefixed4(bank, DIRECTION_DST, h + 16, ~bank->uses_dst);
	at->offset = offset + ((h[0] & 15) << 2);
	at->protocol = h[9];
	at->fragment = ((h[6] << 8 | h[7]) & IP_OFFSET_MASK) != 0;
	at->known = 1;
	return 1;
}

static __always_inline int ipv6(struct xdp_md *ctx, const struct bank *bank,
				__u32 offset, __u64 *left, struct upper *at)
{
	__u8 h[40] __attribute__((aligned(8)));

	if (pull(ctx, offset, h, sizeof(h))) {
		count(ctx, REASON_TRUNCATED);
		return 0;
	}
	if (h[0] >> 4 != 6) {
		count(ctx, REASON_MALFORMED);
		return 0;
	}
	if (*left & bank->uses_src)
		*left &= prefixed6(bank, DIRECTION_SRC, h + 8, ~bank->uses_src);
	if (*left & bank->uses_dst)
		*left &= prefixed6(bank, DIRECTION_DST, h + 24, ~bank->uses_dst);
	at->offset = offset + sizeof(h);
	at->protocol = h[6];
	at->known = 1;
	if (is_extension(at->protocol) &&
	    *left & (bank->uses_protocol | bank->uses_ports)) {
		int walked = walk(ctx, at->offset, at->protocol);

		at->offset = (__u32)walked >> WALKED_OFFSET_SHIFT;
		at->protocol = walked & WALKED_PROTOCOL;
		at->fragment = (walked & WALKED_FRAGMENT) != 0;
		at->known = walked >= 0;
	}
	return 1;
}

/* match returns the rules that match, as bits. A field that cannot be read
 * takes away the rules that name it and no others. */
static __always_inline __u64 match(struct xdp_md *ctx, const struct bank *bank)
{
	__u64 beyond_l2 = bank->uses_protocol | bank->uses_src | bank->uses_dst |
			  bank->uses_ports;
	__u64 left = bank->rules;
	__u32 offset = 14;
	__u16 type, tag[2] __attribute__((aligned(4)));
	__u16 ports[2] __attribute__((aligned(4)));
	__u32 vlan = 0;
	struct upper at = {};

	if (pull(ctx, 12, &type, sizeof(type))) {
		count(ctx, REASON_TRUNCATED);
		return left & ~(bank->uses_vlan | bank->uses_ethertype | beyond_l2);
	}
	for (int i = 0; i < MAX_VLAN_TAGS; i++) {
		if (type != htons(ETH_P_8021Q) && type != htons(ETH_P_8021AD))
			break;
		if (pull(ctx, offset, tag, sizeof(tag))) {
			count(ctx, REASON_TRUNCATED);
			left &= ~(bank->uses_ethertype | beyond_l2);
			if (i == 0)
				return left & ~bank->uses_vlan;
			return left & bank->vlan_mask[bank->vlan_class[vlan & 4095]];
		}
		if (i == 0)
			vlan = ntohs(tag[0]) & 4095;
		type = tag[1];
		offset += sizeof(tag);
	}
	/* Untagged is looked up as VLAN 0, which no rule can name. */
	if (left & bank->uses_vlan)
		left &= bank->vlan_mask[bank->vlan_class[vlan & 4095]];
	if (left & bank->uses_ethertype)
		left &= bank->ethertype_mask[bank->ethertype_class[ntohs(type)]];
	if (!(left & beyond_l2))
		return left;

	if (type == htons(ETH_P_IP)) {
		if (!ipv4(ctx, bank, offset, &left, &at))
			return left & ~beyond_l2;
	} else if (type == htons(ETH_P_IPV6)) {
		if (!ipv6(ctx, bank, offset, &left, &at))
			return left & ~beyond_l2;
	} else {
		return left & ~beyond_l2;
	}
	if (!(left & (bank->uses_protocol | bank->uses_ports)))
		return left;
	if (!at.known)
		return left & ~(bank->uses_protocol | bank->uses_ports);

	if (left & bank->uses_protocol)
		left &= bank->protocol_mask[at.protocol];
	if (!(left & bank->uses_ports))
		return left;
	if (at.fragment ||
	    (at.protocol != IPPROTO_TCP && at.protocol != IPPROTO_UDP &&
	     at.protocol != IPPROTO_SCTP))
		return left & ~bank->uses_ports;
	if (pull(ctx, at.offset, ports, sizeof(ports))) {
		count(ctx, REASON_TRUNCATED);
		return left & ~bank->uses_ports;
	}

	__u16 src = ntohs(ports[0]), dst = ntohs(ports[1]);

	left &= bank->src_port_mask[bank->src_port_class[src]];
	left &= bank->dst_port_mask[bank->dst_port_class[dst]];
	left &= bank->port_mask[bank->port_class[src]] |
		bank->port_mask[bank->port_class[dst]];
	return left;
}

/* lowest returns the index of the lowest bit set in x, which is not 0. */
static __always_inline __u32 lowest(__u64 x)
{
	__u32 n = 0;

	if (!(x & 0xffffffff)) {
		n += 32;
		x >>= 32;
	}
	if (!(x & 0xffff)) {
		n += 16;
		x >>= 16;
	}
	if (!(x & 0xff)) {
		n += 8;
		x >>= 8;
	}
	if (!(x & 0xf)) {
		n += 4;
		x >>= 4;
	}
	if (!(x & 0x3)) {
		n += 2;
		x >>= 2;
	}
	return n + !(x & 1);
}

/* redirect hands the packet to the socket of its queue, or to the kernel
 * where there is none: the helper returns its flags in that case. */
static __always_inline int redirect(struct xdp_md *ctx)
{
	if (bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_PASS) == XDP_REDIRECT) {
		count(ctx, REASON_REDIRECT);
		return XDP_REDIRECT;
	}
	count(ctx, REASON_PASS_NO_SOCKET);
	return XDP_PASS;
}

SEC("xdp.frags")
int xdpipe_steer(struct xdp_md *ctx)
{
	const __u32 zero = 0;
	const struct bank *bank = 0;
	__u64 matched = 0, rule, *hit;
	void *slot;
	__u32 index;

	slot = bpf_map_lookup_elem(&active, &zero);
	if (slot)
		bank = bpf_map_lookup_elem(slot, &zero);
	if (!bank) {
		count(ctx, REASON_PASS_NO_MATCH);
		return XDP_PASS;
	}
	if (bank->rules)
		matched = match(ctx, bank);
	if (!matched) {
		if (bank->flags & BANK_REDIRECT_UNMATCHED)
			return redirect(ctx);
		if (bank->flags & BANK_FILTER_UNMATCHED) {
			/* Returns only if there is no program in the slot: the
			 * kernel empties the array when the last process that
			 * has it open ends and it is not pinned. */
			bpf_tail_call(ctx, &filters,
				      bank->generation & (FILTER_SLOTS - 1));
			count(ctx, REASON_PASS_NO_FILTER);
			return XDP_PASS;
		}
		count(ctx, REASON_PASS_NO_MATCH);
		return XDP_PASS;
	}

	rule = matched & -matched;
	index = lowest(rule) + (bank->generation & 1) * MAX_RULES;
	hit = bpf_map_lookup_elem(&hits, &index);
	if (hit)
		(*hit)++;
	if (bank->redirect & rule)
		return redirect(ctx);
	if (bank->drop & rule) {
		count(ctx, REASON_DROP_RULE);
		return XDP_DROP;
	}
	count(ctx, REASON_PASS_RULE);
	return XDP_PASS;
}

/* filter stands for the expression. User space replaces its instructions: 0 is
 * no match. Being global it is verified by itself, and nothing about the result
 * is taken for granted here. */
__noinline int filter(struct xdp_md *ctx)
{
	int matches = 0;

	asm volatile("" : "+r"(matches) : "r"(ctx));
	return matches;
}

SEC("xdp.frags")
int xdpipe_filter(struct xdp_md *ctx)
{
	if (filter(ctx)) {
		count(ctx, REASON_FILTER);
		return redirect(ctx);
	}
	count(ctx, REASON_PASS_NO_MATCH);
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
