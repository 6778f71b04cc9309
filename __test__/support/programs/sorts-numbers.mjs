// A transform of numbers: 98 of a hundred is rejected, 99 dropped. Each tenth number is emitted, and so are these two.

/** @param {any} batch */
export default async function sort(batch) {
  const numbers = batch.columns.number.values
  for (let row = 0; row < batch.length; row++) {
    const number = Number(numbers[row])
    if (number % 100 === 98) batch.reject(row, 'it ends with 98')
    else if (number % 100 === 99) batch.drop(row)
    if (isEmitted(number)) batch.emit('emitted', { number })
  }
}

const isEmitted = (number) => number % 10 === 0 || number % 100 >= 98

/** The tables of each kind of number; `letters` is the table of dead letters. */
export const SORTED = {
  numbers: (number) => number % 100 < 98,
  emitted: isEmitted,
  letters: (number) => number % 100 === 98,
}
