/** The version of this package. A constant, because compiled files do not lie beside package.json; a test holds them equal. */
export const VERSION = '0.1.0'
