import assert from "node:assert/strict";
import { test } from "node:test";
import { listInWords, numbersDownInWords, numbersInWords, pagesInWords } from "./words.ts";

test("numbers in a row are told by their ends", () => {
  assert.equal(numbersInWords([3, 4, 5, 9]), "3 to 5 and 9");
  assert.equal(numbersInWords([3, 4, 9]), "3, 4 and 9");
  assert.equal(numbersInWords([7]), "7");
  assert.equal(numbersDownInWords([2, 1, 0, 7, 6]), "2 down to 0 and 7 down to 6");
  assert.equal(numbersDownInWords([0, 7]), "0 and 7");
});

test("a list of nothing is none, and no page is no page", () => {
  assert.equal(listInWords([]), "none");
  assert.equal(pagesInWords([]), "no page");
  assert.equal(pagesInWords([4]), "page 4");
  assert.equal(pagesInWords([4, 6]), "pages 4 and 6");
});
