// A client's session: golden bytes, order, errors, requests of the server, and what is left when the client goes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Command, Errno, FLAG_ERROR, FLAG_NO_REPLY, REQUESTS_MAX } from "./protocol.ts";
import { fromHex, hex, pack, PAGE, ServedGuest, TestChannel, u32 } from "./served.fixture.ts";

const served = (): ServedGuest => new ServedGuest().negotiate();
/** An address and a count, which is how DMA_READ and its reply begin. */
const access = (address: number, count: number): Uint8Array => pack([8, address], [8, count]);

/** A reply of the client to request `id`. */
function reply(guest: ServedGuest, id: number, command: number, payload: Uint8Array, flags = 1, error = 0): void {
  guest.channel.onMessage({ id, command, flags, error, payload, descriptors: [] });
}

test("the messages with which QEMU 11.1 begins get these answers, byte for byte", () => {
  const guest = served();
  const conversation: readonly (readonly [command: number, request: string, answer: string])[] = [
    [4, "10000000 00000000 00000000 00000000", "10000000 03000000 09000000 05000000"],
    [
      5,
      "20000000 00000000 03000000 00000000 0000000000000000 0000000000000000",
      "20000000 03000000 03000000 00000000 0040000000000000 0000000000000000",
    ],
    [7, "10000000 00000000 02000000 00000000", "10000000 03000000 02000000 03000000"],
    [9, "0000000000000000 07000000 08000000", "0000000000000000 07000000 08000000 8680ed1000001000"],
    [10, "1000000000000000 07000000 04000000 0000e0fe", "1000000000000000 07000000 04000000"],
    [2, "20000000 03000000 0000000000000000 0000000000000000 0010000000000000", ""],
    [3, "18000000 00000000 0000000000000000 0010000000000000", "18000000 00000000 0000000000000000 0010000000000000"],
    [13, "", ""],
  ];
  for (const [command, request, answer] of conversation) {
    assert.equal(hex(guest.ask(command, fromHex(request))), answer.replaceAll(" ", ""), `command ${command}`);
  }
});

test("a command that wants no reply gets none, be it right or wrong, and is carried out", () => {
  const guest = served();
  const request = new Uint8Array([...pack([8, 4], [4, 7], [4, 2]), 2, 0]);
  assert.equal(guest.send(Command.regionWrite, request, { flags: FLAG_NO_REPLY }), undefined);
  assert.deepEqual(guest.read(7, 4, 2), Uint8Array.of(2, 0));
  assert.equal(guest.send(Command.regionRead, new Uint8Array(0), { flags: FLAG_NO_REPLY }), undefined);
});

test("commands that do not exist, are the server's, or come too late are refused, and the session goes on", () => {
  const guest = served();
  for (const command of [0, Command.version, Command.dmaRead, Command.dmaWrite, 14, 19, 0xffff]) {
    const descriptors = [guest.descriptors.make("memory"), guest.descriptors.make("eventfd")];
    assert.equal(guest.errorOf(command, new Uint8Array(4), { descriptors }), Errno.invalid);
  }
  assert.equal(guest.descriptors.openCount, 0);
  assert.equal(guest.channel.isClosed, false);
});

test("what makes no sense ends the connection with a sentence", () => {
  const cases: readonly (readonly [(guest: ServedGuest) => void, RegExp])[] = [
    [(guest) => guest.send(Command.deviceGetInfo, u32(16, 0, 0, 0)), /command 4 before it had named its version/],
    [(guest) => guest.send(Command.version, pack([2, 1], [2, 0])), /version 1 of the protocol/],
    [(guest) => guest.send(Command.version, pack([2, 0], [2, 0]), { flags: 2 }), /type 2/],
    [(guest) => reply(guest.negotiate(), 5, Command.dmaRead, access(0, 0)), /id 5, which nobody had asked for/],
  ];
  for (const [act, words] of cases) {
    const guest = new ServedGuest();
    act(guest);
    assert.ok(guest.channel.isClosed);
    guest.hangUp();
    assert.match(guest.ends[0] ?? "", words);
  }
});

test("requests go out with ids of their own and find their listeners in any order", () => {
  const guest = served().enable();
  const answers: string[] = [];
  const listen =
    (name: string) =>
    ({ payload }: { payload: Uint8Array }): void =>
      void answers.push(`${name} ${hex(payload.subarray(16))}`);
  guest.channel.sent.length = 0;
  assert.ok(guest.server.request(Command.dmaRead, access(0x1000, 1), listen("first")));
  assert.ok(guest.server.request(Command.dmaRead, access(0x2000, 1), listen("second")));
  const [first, second] = guest.channel.sent;
  assert.ok(first !== undefined && second !== undefined);
  assert.deepEqual([first.flags, first.command, first.payload], [0, Command.dmaRead, access(0x1000, 1)]);
  assert.notEqual(first.id, second.id);
  reply(guest, second.id, Command.dmaRead, Uint8Array.of(...access(0x2000, 1), 2));
  reply(guest, first.id, Command.dmaRead, Uint8Array.of(...access(0x1000, 1), 1));
  assert.deepEqual(answers, ["second 02", "first 01"]);
  reply(guest, first.id, Command.dmaRead, access(0, 0));
  assert.ok(guest.channel.isClosed, "one reply for each request");
});

test("a write without a listener asks for no reply, and a client that refuses it all the same is counted", () => {
  const guest = served().enable();
  guest.channel.sent.length = 0;
  assert.ok(guest.server.request(Command.dmaWrite, Uint8Array.of(...access(0x1000, 1), 7)));
  const [sent] = guest.channel.sent;
  assert.equal(sent?.flags, FLAG_NO_REPLY);
  reply(guest, sent.id, Command.dmaWrite, access(0x1000, 1));
  assert.equal(guest.server.requestsRefused, 0, "an answer that nobody wanted is no refusal");
  reply(guest, sent.id, Command.dmaWrite, new Uint8Array(0), 1 | FLAG_ERROR, 14);
  assert.equal(guest.server.requestsRefused, 1);
  assert.equal(guest.channel.isClosed, false);
});

test("nothing is asked of a client before it has a version, before bus mastering is on, or beyond what it takes", () => {
  const guest = new ServedGuest();
  const ask = (bytes = 0): boolean => guest.server.request(Command.dmaWrite, new Uint8Array(16 + bytes));
  assert.equal(ask(), false);
  const json = new TextEncoder().encode('{"capabilities":{"max_data_xfer_size":1024}}\0');
  guest.ask(Command.version, Uint8Array.of(0, 0, 0, 0, ...json));
  assert.equal(ask(), false);
  guest.enable();
  assert.ok(ask(1024));
  assert.equal(ask(1025), false);
  for (let i = 0; i < REQUESTS_MAX; i++) {
    assert.ok(guest.server.request(Command.dmaRead, access(0, 1), () => {}));
  }
  assert.equal(
    guest.server.request(Command.dmaRead, access(0, 1), () => {}),
    false,
  );
  guest.hangUp();
  assert.equal(ask(), false);
});

test("a reset puts the device back to power-on, keeps the client's eventfds, and lets it run", () => {
  const guest = served().enable();
  const descriptor = guest.descriptors.make("eventfd");
  guest.ask(Command.deviceSetIrqs, u32(20, 0x24, 2, 0, 1), { descriptors: [descriptor] });
  guest.ask(Command.deviceReset);
  assert.deepEqual(guest.read(7, 4, 2), Uint8Array.of(0, 0));
  assert.equal(guest.vf.barAddress(0), -1);
  guest.enable();
  assert.ok(guest.descriptors.isOpen(descriptor));
  assert.deepEqual(guest.read(3, 0, 16), u32(0xfee0_0000, 0, 0, 0));
});

test("when the client goes nothing of it is left, and the next one finds a card as after power-on", () => {
  const guest = served().enable();
  const fresh = guest.read(7, 0, 4);
  guest.map(0, 8 * PAGE);
  guest.map(8 * PAGE, PAGE, { kind: "other" });
  guest.log.start();
  const eventfds = [0, 1, 2].map(() => guest.descriptors.make("eventfd"));
  guest.ask(Command.deviceSetIrqs, u32(20, 0x24, 2, 0, 3), { descriptors: eventfds });
  guest.ask(Command.deviceFeature, u32(16, 0x2_0002, 1, 0));
  assert.ok(guest.vf.isStopped);
  guest.hangUp();
  assert.deepEqual(guest.ends, [undefined]);
  assert.equal(guest.domain.mappedPages + guest.unshared.mappedPages, 0);
  assert.equal(guest.descriptors.openCount, 0);
  assert.equal(guest.log.isRunning, false);
  assert.equal(guest.vf.isStopped, false);
  assert.equal(guest.vf.busMasterEnabled, false);

  guest.connect();
  guest.negotiate().enable();
  assert.deepEqual(guest.read(7, 0, 4), fresh);
});

test("a second client is sent away while the first is there", () => {
  const guest = served();
  const other = new TestChannel(guest.descriptors);
  assert.equal(guest.server.serve(other), false);
  assert.ok(other.isClosed);
  assert.equal(guest.read(7, 0, 4).length, 4);
  guest.server.disconnect();
  assert.ok(guest.channel.isClosed);
  guest.hangUp();
  assert.deepEqual(guest.ends, [undefined]);
});

test("what the channel found wrong is told, unless the session had found something before", () => {
  const guest = served();
  guest.hangUp("it sent half a header");
  guest.connect();
  reply(guest.negotiate(), 9, Command.dmaRead, new Uint8Array(0));
  guest.hangUp("it closed");
  assert.equal(guest.ends[0], "it sent half a header");
  assert.match(guest.ends[1] ?? "", /nobody had asked for/);
});
