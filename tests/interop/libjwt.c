/*
 * What libjwt, by which Slurm reads tokens, says of one.
 *
 *   libjwt RS256|HS256 KEY      a token on standard input
 *
 * Prints the claim sun of a token that is signed with this algorithm and key
 * (the bytes of a secret, or a public key in PEM); else exits with 1.
 */
#include <jwt.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    static unsigned char key[65536];
    static char token[131072];
    jwt_t *jwt = NULL;
    FILE *file;
    size_t length;
    const char *sun;

    if (argc != 3 || !(file = fopen(argv[2], "rb")))
        return 2;
    length = fread(key, 1, sizeof key, file);
    fclose(file);
    token[fread(token, 1, sizeof token - 1, stdin)] = '\0';
    token[strcspn(token, "\n")] = '\0';

    if (jwt_decode(&jwt, token, key, (int) length))
        return 1;
    sun = jwt_get_grant(jwt, "sun");
    if (jwt_get_alg(jwt) != jwt_str_alg(argv[1]) || !sun)
        return 1;
    puts(sun);
    jwt_free(jwt);
    return 0;
}
