import assert from "node:assert/strict";
import { test } from "node:test";
import { changedSentences, noCounts, readCounts } from "./guest-counts.ts";

/** As the guest's console prints it. */
const output = [
  "Ip: Forwarding DefaultTTL InReceives",
  "Ip: 2 64 522",
  "Icmp: InMsgs InErrors InCsumErrors OutMsgs OutErrors OutRateLimitGlobal",
  "Icmp: 522 0 1 518 4 0",
  "IcmpMsg: InType0 InType8 OutType0 OutType8",
  "IcmpMsg: 5 517 513 5",
  "Tcp: InSegs OutSegs RetransSegs InErrs OutRsts InCsumErrors",
  "Tcp: 900 800 3 20 0 10",
  "7",
  "2",
].join("\r\n");

test("the guest's counters are found by their names, and each that grew is a sentence", async () => {
  const counts = await readCounts(async () => ({ output, exitStatus: 0 }));
  assert.deepEqual(counts, {
    retransmitted: 3,
    checksumErrors: 31,
    receiveErrors: 7,
    answersDiscarded: 4,
    complaints: 2,
  });
  const sentences = changedSentences(noCounts, counts);
  assert.deepEqual(
    sentences.map((sentence) => Number.parseInt(sentence, 10)),
    [3, 31, 7, 4, 2],
  );
  assert.match(sentences[3] ?? "", /answers to pings were thrown away by the guest's kernel/);
  assert.deepEqual(changedSentences(counts, counts), []);
});

test("counters that a kernel does not have are zero", async () => {
  assert.deepEqual(await readCounts(async () => ({ output: "", exitStatus: 1 })), noCounts);
});
