/* Prints the addresses of a name as the C library finds them, or why there are none. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	struct addrinfo hints, *found, *one;
	char text[INET6_ADDRSTRLEN];
	int error;

	if (argc != 2)
		return 2;
	memset(&hints, 0, sizeof hints);
	hints.ai_family = AF_UNSPEC;
	hints.ai_socktype = SOCK_STREAM;
	error = getaddrinfo(argv[1], NULL, &hints, &found);
	if (error == EAI_NONAME)
		return puts("no such name") < 0;
	if (error != 0) {
		puts(gai_strerror(error));
		return 1;
	}
	for (one = found; one != NULL; one = one->ai_next) {
		const void *address = one->ai_family == AF_INET
			? (const void *)&((struct sockaddr_in *)one->ai_addr)->sin_addr
			: (const void *)&((struct sockaddr_in6 *)one->ai_addr)->sin6_addr;
		puts(inet_ntop(one->ai_family, address, text, sizeof text));
	}
	freeaddrinfo(found);
	return 0;
}
