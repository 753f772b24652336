import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { JsonLines } from "./json-lines.ts";

function read(chunks: readonly Uint8Array[], lineBytesMax = 1000): { values: unknown[]; problem: string | undefined } {
  const values: unknown[] = [];
  const lines = new JsonLines({ lineBytesMax, onValue: (value) => values.push(value) });
  for (const chunk of chunks) {
    lines.push(chunk);
    chunk.fill(0x21);
  }
  return { values, problem: lines.problem };
}

function split(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const places = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...places].map((from, i) => bytes.slice(from, places[i] ?? bytes.length));
}

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

test("the values are the same however the stream is cut, and chunks may be reused", () => {
  fc.assert(
    fc.property(
      fc.array(fc.json({ maxDepth: 2 }), { maxLength: 6 }),
      fc.array(fc.nat(), { maxLength: 8 }),
      (texts, cuts) => {
        const stream = utf8(texts.map((text) => `${text}\r\n`).join(""));
        const { values, problem } = read(split(stream, cuts), 100_000);
        assert.equal(problem, undefined);
        assert.deepEqual(
          values,
          texts.map((text) => JSON.parse(text) as unknown),
        );
      },
    ),
  );
});

test("any bytes at all give values or a problem, never an exception", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.array(fc.nat(), { maxLength: 5 }), (bytes, cuts) => {
      const whole = read([bytes.slice()]);
      assert.deepEqual(read(split(bytes, cuts)), whole);
    }),
  );
});

test("blank lines are passed over, and the last line counts only when it is ended", () => {
  assert.deepEqual(read([utf8('\n  \r\n{"a":1}\n{"b"')]), { values: [{ a: 1 }], problem: undefined });
});

test("a line that is too long ends the stream before it is whole, wherever it was cut", () => {
  const line = utf8(`1\n"${"x".repeat(20)}"\n2\n`);
  for (let cut = 0; cut <= line.length; cut++) {
    assert.deepEqual(read([line.slice(0, cut), line.slice(cut)], 21), { values: [1], problem: "too-long" });
    assert.deepEqual(read([line.slice(0, cut), line.slice(cut)], 22).values.length, 3);
  }
});

test("nothing is read after a line that is not JSON, nor after one that is not UTF-8", () => {
  assert.deepEqual(read([utf8("1\nno\n2\n")]), { values: [1], problem: "not-json" });
  assert.deepEqual(read([Uint8Array.of(0x31, 0x0a, 0x22, 0xff, 0x22, 0x0a, 0x32, 0x0a)]), {
    values: [1],
    problem: "not-json",
  });
});
