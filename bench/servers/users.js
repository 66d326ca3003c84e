/** Who logs in: a thousand users in turn, since one alone would make every index of users look better than it is. */
const USERS = 1000
let turn = 0
export const nextUser = () => `user-${turn++ % USERS}`
export const userNames = Array.from({ length: USERS }, (_, i) => `user-${i}`)
