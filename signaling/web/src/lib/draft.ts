/** A message that could not be sent goes back into the field, before what was typed since. */
export function putBack(message: string, typedSince: string): string {
  return typedSince.trim() ? `${message} ${typedSince}` : message;
}
