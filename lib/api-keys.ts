/** API keys: made, and compared without telling by the time it takes how much of a key was right. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'

const digest = (text: string) => createHash('sha256').update(text).digest()

/** Checks candidates against a set of keys. The keys themselves are not kept. */
export interface ApiKeys {
  has (candidate: string): boolean
}

export function createApiKeys (keys: readonly string[]): ApiKeys {
  const digests = keys.map(digest)
  return {
    has (candidate) {
      const given = digest(candidate)
      // Digests have one length, and every one is compared: neither a key's length nor its position shows in the time.
      let found = false
      for (const known of digests) found = timingSafeEqual(known, given) || found
      return found
    }
  }
}

/** A new key of 256 random bits. */
export function generateApiKey (random: (size: number) => Buffer = randomBytes): string {
  return `dk_${random(32).toString('base64url')}`
}
