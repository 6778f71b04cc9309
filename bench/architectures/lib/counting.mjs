// The work that all services do: how many of the numbers below `size`, mixed with a seed, are multiples of eight.
// `counting/src/lib.rs` is the same in Rust.
//
// The count depends on the seed, which comes with the request, and there is no formula for it: no compiler can do without the
// loop.

/**
 * @typedef {object} Task
 * @property {number} seed 32 bits
 * @property {number} size how many numbers are looked at, from 0
 * @property {number} parts how many parts the count has
 */

/**
 * @param {number} seed
 * @param {number} from
 * @param {number} to the first number that is not looked at
 * @returns {number}
 */
export function countPart(seed, from, to) {
  let count = 0
  for (let number = from; number < to; number += 1) {
    let mixed = Math.imul(number ^ seed, 0x9e3779b1)
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x85ebca6b)
    if (((mixed ^ (mixed >>> 13)) & 7) === 0) count += 1
  }
  return count
}

/**
 * Where the parts begin and end.
 *
 * @param {Task} task
 * @returns {{ seed: number, from: number, to: number }[]}
 */
export function partsOf({ seed, size, parts }) {
  const bound = (part) => Math.floor((size * part) / parts)
  return Array.from({ length: parts }, (_, part) => ({ seed, from: bound(part), to: bound(part + 1) }))
}
