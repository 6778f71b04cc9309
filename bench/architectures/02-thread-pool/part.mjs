import { countPart } from '../lib/counting.mjs'

/** @param {{ seed: number, from: number, to: number }} part */
export default ({ seed, from, to }) => countPart(seed, from, to)
