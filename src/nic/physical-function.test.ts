import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ManualClock } from "../base/clock.ts";
import { VfDriver } from "./guest-driver.ts";
import { CastMode, MailboxApi, MESSAGE_ACK, MESSAGE_CTS, MESSAGE_NACK, MessageType } from "./mailbox-messages.ts";
import { PhysicalFunction } from "./physical-function.ts";
import type { PhysicalFunctionOptions } from "./physical-function.ts";
import { makeRegisters, RegisterFile } from "./register-file.ts";
import { RegisterEffect } from "./register-table.ts";
import { VFLINKS, VFLINKS_SPEED_1G, VFLINKS_UP, VFMAILBOX, VFMAILBOX_PFSTS, VFMAILBOX_VFU } from "./registers.ts";
import { FilterVerdict } from "./switch-filter.ts";

const mac = Uint8Array.of(2, 0, 0, 0, 0, 0x11);

interface Bench {
  readonly pf: PhysicalFunction;
  readonly driver: VfDriver;
  readonly clock: ManualClock;
  readonly file: RegisterFile;
  readonly events: string[];
}

function bench(changes: Partial<PhysicalFunctionOptions> = {}): Bench {
  const clock = new ManualClock(500);
  const events: string[] = [];
  const parts: { pf?: PhysicalFunction } = {};
  const file = new RegisterFile(makeRegisters(), {
    beforeRead() {},
    afterRead() {},
    afterWrite(effect, _instance, written) {
      if (effect === RegisterEffect.mailbox) parts.pf?.mailbox.controlWritten(written);
      if (effect === RegisterEffect.control) parts.pf?.functionReset();
    },
  });
  const pf = new PhysicalFunction({
    registers: file.registers,
    clock,
    mac,
    queuePairs: 2,
    apiMax: MailboxApi.v15,
    trusted: true,
    link: { up: false, speedMbps: 10_000 },
    raise: () => events.push("raise"),
    clearHeadWriteBack: () => events.push("clear-head-write-back"),
    onRecordChanged: () => {},
    onDeadline: () => events.push("deadline"),
    ...changes,
  });
  parts.pf = pf;
  const driver = new VfDriver({
    read: (offset) => file.read(offset, 4),
    write: (offset, value) => file.write(offset, 4, value),
  });
  return { pf, driver, clock, file, events };
}

function up(changes: Partial<PhysicalFunctionOptions> = {}, api: MailboxApi = MailboxApi.v17): Bench {
  const made = bench(changes);
  made.driver.reset();
  made.driver.negotiate(api);
  made.events.length = 0;
  return made;
}

const macWords = (...bytes: number[]): number[] => [
  ((bytes[0] ?? 0) | ((bytes[1] ?? 0) << 8) | ((bytes[2] ?? 0) << 16) | ((bytes[3] ?? 0) << 24)) >>> 0,
  (bytes[4] ?? 0) | ((bytes[5] ?? 0) << 8),
];
const frameTo = (destination: readonly number[], ...rest: number[]): Uint8Array => {
  const frame = new Uint8Array(64);
  frame.set([...destination, ...mac, ...rest]);
  return frame;
};

test("before RESET every request is refused without CTS", () => {
  const { driver, pf } = bench();
  for (const type of Object.values(MessageType)) {
    if (type === MessageType.reset) continue;
    assert.deepEqual(driver.mailbox.request([type, 0, 0], 1), [type | MESSAGE_NACK]);
  }
  assert.equal(pf.requests.accepted, 0);
});

test("RESET is answered with the address and the filter type, and zeroes the head write-back addresses", () => {
  const { driver, events } = bench();
  driver.reset();
  assert.deepEqual(driver.mac, [...mac]);
  assert.ok(events.includes("clear-head-write-back"));
});

test("a VF without an assigned address gets a NACK to RESET and may choose its own", () => {
  const { driver, pf } = bench({ mac: new Uint8Array(6) });
  assert.deepEqual(driver.mailbox.request([MessageType.reset], 4), [1 | MESSAGE_NACK, 0, 0, 0]);
  assert.equal(pf.filter.verdict(frameTo([...mac])), FilterVerdict.otherAddress);
  assert.ok(driver.isAccepted([MessageType.setMac, ...macWords(...mac)]));
  assert.equal(pf.filter.verdict(frameTo([...mac])), FilterVerdict.accepted);
});

test("the driver negotiates the newest API the PF speaks, and both handshakes carry requests", () => {
  for (const apiMax of [0, 2, 3, 4, 5, 6, 7, 8] as MailboxApi[]) {
    const { driver } = up({ apiMax });
    assert.equal(driver.api, apiMax);
    assert.equal(driver.mailbox.strict, apiMax === MailboxApi.v15 || apiMax === MailboxApi.v17);
    assert.ok(driver.isAccepted([MessageType.setVlan | (1 << 16), 7]));
  }
});

test("API 2.0 and unknown versions are refused", () => {
  const { driver } = up();
  assert.equal(driver.isAccepted([MessageType.negotiateApi, MailboxApi.v20, 0]), false);
  assert.equal(driver.isAccepted([MessageType.negotiateApi, 9, 0]), false);
  assert.equal(driver.isAccepted([MessageType.negotiateApi, 0xffff_ffff, 0]), false);
});

test("an API older than a message refuses the message", () => {
  const since: readonly [number, MailboxApi][] = [
    [MessageType.getQueues, MailboxApi.v11],
    [MessageType.getRssTable, MailboxApi.v12],
    [MessageType.getRssKey, MailboxApi.v12],
    [MessageType.updateCastMode, MailboxApi.v12],
    [MessageType.getLinkState, MailboxApi.v12],
    [MessageType.getPfLinkState, MailboxApi.v16],
    [MessageType.negotiateFeatures, MailboxApi.v17],
  ];
  for (const api of [0, 2, 3, 4, 5, 6, 7, 8] as MailboxApi[]) {
    const { driver } = up({ apiMax: MailboxApi.v17 }, api);
    for (const [type, first] of since) assert.equal(driver.isAccepted([type, 0, 0]), api >= first, `${type} ${api}`);
  }
});

test("SET_MAC takes station addresses only, and an untrusted VF may not replace an assigned one", () => {
  const { driver, pf } = up();
  assert.equal(driver.isAccepted([MessageType.setMac, ...macWords(1, 0, 0, 0, 0, 1)]), false);
  assert.equal(driver.isAccepted([MessageType.setMac, 0, 0]), false);
  assert.ok(driver.isAccepted([MessageType.setMac, ...macWords(2, 9, 9, 9, 9, 9)]));
  assert.equal(pf.filter.verdict(frameTo([2, 9, 9, 9, 9, 9])), FilterVerdict.accepted);
  assert.equal(pf.filter.verdict(frameTo([...mac])), FilterVerdict.otherAddress);

  const untrusted = up({ trusted: false }).driver;
  assert.equal(untrusted.isAccepted([MessageType.setMac, ...macWords(2, 9, 9, 9, 9, 9)]), false);
  assert.ok(untrusted.isAccepted([MessageType.setMac, ...macWords(...mac)]));
});

test("MACVLAN index 1 begins a list, higher ones add to it, 0 clears it, and the list has an end", () => {
  const { driver, pf } = up();
  const add = (index: number, last: number): boolean =>
    driver.isAccepted([MessageType.setMacVlan | (index << 16), ...macWords(2, 1, 1, 1, 1, last)]);
  assert.ok(add(1, 1));
  assert.ok(add(2, 2));
  assert.deepEqual(pf.save().macVlans, ["02:01:01:01:01:01", "02:01:01:01:01:02"]);
  assert.ok(add(1, 3));
  assert.deepEqual(pf.save().macVlans, ["02:01:01:01:01:03"]);
  for (let i = 0; i < 31; i++) assert.ok(add(2, 10 + i));
  assert.equal(add(2, 100), false);
  assert.ok(add(0, 0));
  assert.deepEqual(pf.save().macVlans, []);
  assert.equal(driver.isAccepted([MessageType.setMacVlan | (1 << 16), ...macWords(1, 0, 0, 0, 0, 0)]), false);
});

test("multicast frames arrive by hash of the addresses asked for, and by mode", () => {
  const { driver, pf } = up();
  const allNodes = [0x33, 0x33, 0, 0, 0, 1];
  const other = [0x33, 0x33, 0, 0, 0x77, 0x55];
  const verdict = (to: readonly number[]): FilterVerdict => pf.filter.verdict(frameTo(to));
  assert.equal(verdict(allNodes), FilterVerdict.otherAddress);
  // ixgbevf_mta_vector of 33:33:00:00:00:01, filter type 0.
  assert.ok(driver.isAccepted([MessageType.setMulticast | (1 << 16), 0x010]));
  assert.equal(verdict(allNodes), FilterVerdict.accepted);
  assert.equal(verdict(other), FilterVerdict.otherAddress);
  assert.ok(driver.isAccepted([MessageType.updateCastMode, CastMode.allMulticast]));
  assert.equal(verdict(other), FilterVerdict.accepted);
  assert.ok(driver.isAccepted([MessageType.updateCastMode, CastMode.none]));
  assert.equal(verdict(allNodes), FilterVerdict.otherAddress);
  assert.equal(driver.isAccepted([MessageType.updateCastMode, CastMode.promiscuous]), false);
  assert.equal(driver.isAccepted([MessageType.updateCastMode, 4]), false);
  assert.equal(verdict([255, 255, 255, 255, 255, 255]), FilterVerdict.accepted);
});

test("the multicast hash is the one ixgbevf computes", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 6, maxLength: 6 }), fc.nat(0xfff), (address, other) => {
      address[0] = (address[0] ?? 0) | 1;
      const isBroadcast = address.every((byte) => byte === 0xff);
      // ixgbevf_mta_vector, filter type 0.
      const vector = (((address[4] ?? 0) >>> 4) | ((address[5] ?? 0) << 4)) & 0xfff;
      const { filter } = bench().pf;
      filter.castMode = CastMode.multicast;
      filter.setHashes([vector]);
      assert.equal(filter.verdict(frameTo([...address])), FilterVerdict.accepted);
      filter.setHashes([other]);
      const isAccepted = isBroadcast || other === vector;
      assert.equal(filter.verdict(frameTo([...address])) === FilterVerdict.accepted, isAccepted);
    }),
    { seed: 82_599 },
  );
});

test("an untrusted VF that asks for all multicast is told it gets its own groups", () => {
  const { driver } = up({ trusted: false });
  const answer = driver.mailbox.request([MessageType.updateCastMode, CastMode.allMulticast]);
  assert.deepEqual(answer, [(MessageType.updateCastMode | MESSAGE_ACK | MESSAGE_CTS) >>> 0, CastMode.multicast]);
});

test("tagged frames arrive only for member VLANs, and VLAN 0 cannot be left", () => {
  const { driver, pf } = up();
  const verdict = (vid: number): FilterVerdict => pf.filter.verdict(frameTo([...mac], 0x81, 0, vid >>> 8, vid));
  assert.equal(verdict(0), FilterVerdict.accepted);
  assert.equal(verdict(100), FilterVerdict.otherVlan);
  assert.ok(driver.isAccepted([MessageType.setVlan | (1 << 16), 100]));
  assert.equal(verdict(100), FilterVerdict.accepted);
  assert.ok(driver.isAccepted([MessageType.setVlan, 100]));
  assert.equal(verdict(100), FilterVerdict.otherVlan);
  assert.ok(driver.isAccepted([MessageType.setVlan, 0]));
  assert.equal(verdict(0), FilterVerdict.accepted);
});

test("the VLAN list has an end", () => {
  const { driver } = up();
  for (let id = 1; id < 64; id++) assert.ok(driver.isAccepted([MessageType.setVlan | (1 << 16), id]));
  assert.equal(driver.isAccepted([MessageType.setVlan | (1 << 16), 64]), false);
  assert.ok(driver.isAccepted([MessageType.setVlan, 63]));
  assert.ok(driver.isAccepted([MessageType.setVlan | (1 << 16), 64]));
});

test("SET_LPE keeps to its bounds, only grows, and shuts a VF of API 1.0 that asks for jumbo frames", () => {
  const { driver, pf } = up();
  assert.equal(driver.isAccepted([MessageType.setMaximumFrame, 67]), false);
  assert.equal(driver.isAccepted([MessageType.setMaximumFrame, 9729]), false);
  assert.equal(pf.frameLimitBytes, 1518);
  assert.ok(driver.isAccepted([MessageType.setMaximumFrame, 9018]));
  assert.ok(driver.isAccepted([MessageType.setMaximumFrame, 1518]));
  assert.equal(pf.frameLimitBytes, 9018);
  assert.ok(pf.receiveEnabled);

  const old = up({}, MailboxApi.v10);
  assert.equal(old.driver.isAccepted([MessageType.setMaximumFrame, 9018]), false);
  assert.equal(old.pf.receiveEnabled, false);
  assert.ok(old.driver.isAccepted([MessageType.setMaximumFrame, 1518]));
  assert.ok(old.pf.receiveEnabled);
});

test("queues, redirection table, key and link state are told as ixgbevf unpacks them", () => {
  const { driver } = up();
  assert.deepEqual(driver.mailbox.request([MessageType.getQueues, 0, 0, 0, 0]).slice(1), [2, 2, 0, 0]);
  const table = driver.mailbox.request([MessageType.getRssTable], 9).slice(1);
  assert.deepEqual(
    table,
    Array.from({ length: 8 }, () => 0x4444_4444),
  );
  const key = driver.mailbox.request([MessageType.getRssKey], 11).slice(1);
  assert.equal(key[0], 0xda56_5a6d);
  assert.deepEqual(driver.mailbox.request([MessageType.getLinkState, 0]).slice(1), [1]);
});

test("IPsec requests and unknown types are refused", () => {
  const { driver } = up({ apiMax: MailboxApi.v17 });
  for (const type of [MessageType.ipsecAdd, MessageType.ipsecDelete, 0x07, 0x13, 0xffff]) {
    assert.equal(driver.isAccepted([type, 1, 2]), false);
  }
});

test("frames with another station's source address are spoofed, until the VF has several addresses", () => {
  const { driver, pf } = up();
  const spoofed = frameTo([2, 0, 0, 0, 0, 0x22]);
  assert.ok(pf.filter.maySend(spoofed));
  spoofed[11] = 0x99;
  assert.equal(pf.filter.maySend(spoofed), false);
  assert.ok(driver.isAccepted([MessageType.setMacVlan | (1 << 16), ...macWords(2, 1, 1, 1, 1, 1)]));
  assert.ok(pf.filter.maySend(spoofed));
});

test("after a function reset no unicast frame arrives until the RESET message", () => {
  const { driver, pf } = up();
  pf.functionReset();
  assert.equal(pf.filter.verdict(frameTo([...mac])), FilterVerdict.otherAddress);
  driver.reset();
  assert.equal(pf.filter.verdict(frameTo([...mac])), FilterVerdict.accepted);
});

test("a link change sets VFLINKS and reaches the driver as a message with CTS", () => {
  const { driver, pf, file, events } = up();
  pf.setLink({ up: true, speedMbps: 1000 });
  assert.equal(file.read(VFLINKS, 4), VFLINKS_UP | VFLINKS_SPEED_1G);
  assert.deepEqual(events, ["raise"]);
  driver.getLinkStatus = true;
  assert.deepEqual(driver.checkLink(), { up: true, mustReset: false });
  pf.setLink({ up: false, speedMbps: 1000 });
  driver.getLinkStatus = true;
  assert.deepEqual(driver.checkLink(), { up: false, mustReset: false });
  pf.setLink({ up: false, speedMbps: 100 });
  assert.equal(events.filter((event) => event === "raise").length, 2);
});

test("a withdrawn CTS makes the driver want to start over with either handshake, and it then comes up again", () => {
  for (const api of [MailboxApi.v14, MailboxApi.v15]) {
    const { driver, pf, clock } = up({}, api);
    pf.setLink({ up: true, speedMbps: 10_000 });
    driver.getLinkStatus = true;
    assert.deepEqual(driver.checkLink(), { up: true, mustReset: false });
    assert.equal(pf.deadlineMs(), Infinity);

    pf.withdraw();
    driver.getLinkStatus = true;
    assert.deepEqual(driver.checkLink(), { up: false, mustReset: true });
    // The driver may not reset within 10 s of its last reset; until then each acknowledgement is refused anew.
    for (let i = 0; i < 3; i++) {
      assert.equal(pf.deadlineMs(), clock.nowMs() + 10);
      clock.advance(10);
      pf.advance();
      assert.deepEqual(driver.checkLink(), { up: false, mustReset: true });
    }
    driver.reset();
    driver.negotiate(api);
    assert.equal(pf.deadlineMs(), Infinity);
    driver.getLinkStatus = true;
    assert.deepEqual(driver.checkLink(), { up: true, mustReset: false });
  }
});

test("a message of the PF's own accord waits for an unread reply and for the VF to let go of the buffer", () => {
  const { driver, pf, file } = up();
  driver.mailbox.strict = false;
  driver.mailbox.send([MessageType.setVlan | (1 << 16), 5]);
  pf.ping();
  const reply = driver.mailbox.receive(1)[0];
  assert.equal(reply, (MessageType.setVlan | (1 << 16) | MESSAGE_ACK | MESSAGE_CTS) >>> 0);
  assert.equal(driver.mailbox.receive(1)[0], 0x0100 | MESSAGE_CTS);

  file.write(VFMAILBOX, 4, VFMAILBOX_VFU);
  pf.ping();
  assert.equal(file.read(VFMAILBOX, 4), VFMAILBOX_VFU);
  file.write(VFMAILBOX, 4, 0);
  assert.equal(file.read(VFMAILBOX, 4), VFMAILBOX_PFSTS);
});

test("the PF's state restores to a PF that answers and filters alike", () => {
  const { driver, pf, file } = up();
  assert.ok(driver.isAccepted([MessageType.setVlan | (1 << 16), 77]));
  assert.ok(driver.isAccepted([MessageType.setMacVlan | (1 << 16), ...macWords(2, 1, 1, 1, 1, 1)]));
  assert.ok(driver.isAccepted([MessageType.setMulticast | (2 << 16), 0x0fff_0123]));
  assert.ok(driver.isAccepted([MessageType.updateCastMode, CastMode.multicast]));
  assert.ok(driver.isAccepted([MessageType.setMaximumFrame, 4000]));
  const other = bench();
  other.file.registers.set(file.registers);
  other.pf.restore(pf.save());
  assert.deepEqual(other.pf.save(), pf.save());
  assert.equal(other.pf.filter.verdict(frameTo([2, 1, 1, 1, 1, 1])), FilterVerdict.accepted);
  assert.equal(other.pf.filter.verdict(frameTo([...mac], 0x81, 0, 0, 77)), FilterVerdict.accepted);
  other.driver.mailbox.strict = true;
  assert.ok(other.driver.isAccepted([MessageType.setVlan, 77]));
});

test("no words in the mailbox make the PF throw, and it answers each request once", () => {
  const words = fc.array(fc.oneof(fc.nat(0x20), fc.nat(0xffff_ffff)), { minLength: 1, maxLength: 16 });
  fc.assert(
    fc.property(fc.array(words, { maxLength: 30 }), (messages) => {
      const { driver, pf, file } = up({ apiMax: MailboxApi.v17 });
      driver.mailbox.strict = false;
      for (const message of messages) {
        file.read(VFMAILBOX, 4);
        driver.mailbox.send(message);
        const isAnswer = ((message[0] ?? 0) & (MESSAGE_ACK | MESSAGE_NACK)) !== 0;
        assert.equal((file.read(VFMAILBOX, 4) & VFMAILBOX_PFSTS) !== 0, !isAnswer);
      }
      pf.restore(pf.save());
    }),
    { seed: 82_599 },
  );
});
