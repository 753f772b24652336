import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import picocolors from "picocolors";
import { bar, bullets, fit, pageOf, paragraph, table, visibleLength, wrap } from "./layout.ts";
import { FakeTerminal } from "./fakes.ts";

const word = fc.string({ unit: fc.constantFrom("a", "b", "é", ",", "7"), minLength: 1, maxLength: 12 });
const words = fc.array(word, { maxLength: 40 });

test("wrapping keeps every word, in order, and no line is longer than it may be", () => {
  fc.assert(
    fc.property(words, fc.integer({ min: 12, max: 80 }), (text, width) => {
      const lines = wrap(text.join(" "), width);
      assert.deepEqual(
        lines.flatMap((line) => line.split(" ")),
        text,
      );
      for (const line of lines) assert.ok(line.length <= width, line);
    }),
  );
});

test("a number is not parted from its unit", () => {
  assert.deepEqual(wrap("it took 17.4 ms", 12), ["it took", "17.4 ms"]);
  assert.deepEqual(wrap("it sent 45.1 MiB at 1.25 Gbit/s", 21), ["it sent 45.1 MiB at", "1.25 Gbit/s"]);
});

test("a paragraph hangs behind its label, coloured or not", () => {
  const { bold } = picocolors.createColors(true);
  const lines = paragraph("one two three", 13, "     ", `${bold("1st")}  `);
  assert.deepEqual(lines.map(visibleLength), [12, 10]);
  assert.deepEqual(lines[1], "     three");
});

test("columns of a table line up whatever colours are in them", () => {
  const page = pageOf(new FakeTerminal({ color: true }));
  const columns = [
    { title: "name", align: "left" },
    { title: "n", align: "right" },
  ] as const;
  const lines = table(
    columns,
    [
      ["a", page.colors.red("1")],
      ["longer", "1,000"],
    ],
    page,
    "",
  );
  assert.deepEqual(lines.map(visibleLength), [14, 14, 14]);
});

test("a bar is as long as it is told, to an eighth of a column", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 400 }), (eighths) => {
      const drawn = bar(eighths / 8, true);
      assert.equal(drawn.length, Math.ceil(eighths / 8));
      assert.match(drawn, /^█*[▏▎▍▌▋▊▉]?$/);
    }),
  );
  assert.equal(bar(2.6, false), "###");
});

test("a terminal without block characters gets ASCII only", () => {
  const page = pageOf(new FakeTerminal({ unicode: false }));
  assert.deepEqual(bullets(["one"], page, ""), ["- one"]);
  assert.equal(fit("abcdef", 4, false), "abcd");
  assert.equal(fit("abcdef", 4, true), "abc…");
});

test("a page is never wider than is good to read, nor so narrow that it falls apart", () => {
  const widths = [20, 80, 300].map((columns) => pageOf(new FakeTerminal({ columns })).width);
  assert.deepEqual(widths, [72, 80, 96]);
});
