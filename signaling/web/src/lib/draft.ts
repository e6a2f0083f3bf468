/** Text for the field after a message could not be sent: that message, then the text typed since. */
export function putBack(message: string, typedSince: string): string {
  return typedSince.trim() ? `${message} ${typedSince}` : message;
}
